"""Owns what is kept of each request: when it was due, sent and answered, and what the answer said.

Knows nothing of load, nor of what the figures will be.
"""

import json
import math
import re
from contextlib import suppress
from typing import Any, NamedTuple

from bench.serving.http_client import Answer

RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
PROBLEM = re.compile(rb"\r\ncontent-type: *application/problem\+json", re.IGNORECASE)
QUEUE = re.compile(rb"\r\nserver-timing:[^\r]*\bqueue;dur=([\d.]+)", re.IGNORECASE)
LOST = 0  # the status of a request without an answer


class Record(NamedTuple):
    """One request and its answer.

    Attributes:
        due: when it was to be sent; sent: when its last byte was; ended: when the answer was
            there. In seconds, on the monotonic clock, which all processes of a machine share.
        status: of the answer; LOST without one.
        code: what a problem says that it is.
        problem: whether the answer calls itself application/problem+json.
        retry_after_s: the header; NaN without one.
        retry_after_ms: what the problem says; NaN without one.
        queue_ms: how long the image waited for its batch, by Server-Timing; NaN without one.
    """

    due: float
    sent: float
    ended: float
    status: int
    code: str = ""
    problem: bool = False
    retry_after_s: float = math.nan
    retry_after_ms: float = math.nan
    queue_ms: float = math.nan

    @property
    def latency_ms(self) -> float:
        """From the last byte of the request to the last of the answer."""
        return (self.ended - self.sent) * 1e3

    @property
    def from_due_ms(self) -> float:
        """The same from when it should have been sent."""
        return (self.ended - self.due) * 1e3


def told(answer: Answer) -> Record:
    """What is kept of an answer."""
    head, body = answer.head, answer.body
    status = int(head[9:12]) if head else LOST
    said: dict[str, Any] = {}
    if head and status != 200:
        with suppress(ValueError):
            parsed = json.loads(body)
            said = parsed if isinstance(parsed, dict) else {}
    return Record(
        answer.asked,
        answer.sent,
        answer.ended,
        status,
        str(said.get("code", "")),
        PROBLEM.search(head) is not None,
        number(RETRY_AFTER, head),
        float(said.get("retry_after_ms", math.nan)),
        number(QUEUE, head),
    )


def number(pattern: re.Pattern[bytes], head: bytes) -> float:
    """The number in a header; NaN if there is none."""
    found = pattern.search(head)
    return float(found[1]) if found else math.nan
