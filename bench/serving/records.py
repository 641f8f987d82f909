"""The record of a request: its times, and the fields of its response that a burst is judged by."""

import json
import math
import re
from contextlib import suppress
from typing import Any, NamedTuple

from bench.serving.http_client import Response

RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
PROBLEM = re.compile(rb"\r\ncontent-type: *application/problem\+json", re.IGNORECASE)
LOST = 0  # status of a request without a response


class Record(NamedTuple):
    """One request and its response.

    Attributes:
        due: when the request should have been sent, in seconds on the monotonic clock, which all
            processes of a machine share.
        sent: when its last byte was sent.
        ended: when the response was complete.
        status: HTTP status; LOST without a response.
        code: the problem's `code`; empty without a problem.
        problem: whether the content type is application/problem+json.
        retry_after_s: the header Retry-After; NaN if absent.
        retry_after_ms: the problem's `retry_after_ms`; NaN if absent.
    """

    due: float
    sent: float
    ended: float
    status: int
    code: str = ""
    problem: bool = False
    retry_after_s: float = math.nan
    retry_after_ms: float = math.nan

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the last byte of the request to the last byte of the response."""
        return (self.ended - self.sent) * 1e3

    @property
    def from_due_ms(self) -> float:
        """Milliseconds from the time when the request was due to the end of the response."""
        return (self.ended - self.due) * 1e3


def record_of(response: Response) -> Record:
    """Return the record of a response."""
    head, body = response.head, response.body
    status = int(head[9:12]) if head else LOST
    problem: dict[str, Any] = {}
    if head and status != 200:
        with suppress(ValueError):
            parsed = json.loads(body)
            problem = parsed if isinstance(parsed, dict) else {}
    return Record(
        response.due,
        response.sent,
        response.ended,
        status,
        str(problem.get("code", "")),
        PROBLEM.search(head) is not None,
        number(RETRY_AFTER, head),
        float(problem.get("retry_after_ms", math.nan)),
    )


def number(pattern: re.Pattern[bytes], head: bytes) -> float:
    """Return the number in a header; NaN if the header is absent."""
    match = pattern.search(head)
    return float(match[1]) if match else math.nan
