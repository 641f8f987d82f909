"""Owns what is counted of the soak's traffic: by kind, by second, and what nobody expected.

Knows nothing of how requests are sent.
"""

import json
from collections import Counter
from contextlib import suppress
from typing import Any

from bench.serving.summary import percentile
from bench.soaking.client import Reply
from bench.soaking.kinds import BUSY, Kind

EXAMPLES = 50  # of what was unexpected; more are only counted
PROBLEM = "application/problem+json"


def fault(kind: Kind, reply: Reply, busy: bool) -> str:
    """What is wrong with an answer; nothing, if it may be given to this kind.

    Args:
        busy: whether a burst was on: then anyone who asks for work may be refused.
    """
    expected = {**kind.expected, **BUSY} if busy and kind.good else kind.expected
    told = f"{reply.status} {reply.body[:200].decode(errors='replace')}"
    if reply.status not in expected:
        return told
    code = expected[reply.status]
    if not code:
        return "" if reply.media == kind.media and reply.body else f"{reply.media}: {told}"
    problem: Any = None
    with suppress(ValueError):
        problem = json.loads(reply.body)
    right = isinstance(problem, dict) and problem.get("code") == code
    right = right and problem.get("status") == reply.status and reply.media == PROBLEM
    if reply.status == 503:
        right = right and b"\r\nretry-after: " in reply.head.lower() and "retry_after_ms" in problem
    return "" if right else f"{reply.media}: {told}"


class Tally:
    """The counts of one run; seconds are counted from its begin."""

    def __init__(self) -> None:
        self.statuses: dict[str, Counter[str]] = {}
        self.latencies_ms: dict[str, list[float]] = {}
        self.unexpected = 0
        self.examples: list[str] = []
        self._seconds: dict[int, Second] = {}

    def add(self, kind: Kind, at: float, taken_s: float, reply: Reply, wrong: str) -> None:
        """Count an answer that came at a second, and what is wrong with it."""
        second = self._second(at)
        self.statuses.setdefault(kind.name, Counter())[str(reply.status or "lost")] += 1
        self.latencies_ms.setdefault(kind.name, []).append(taken_s * 1e3)
        if wrong:
            self._unexpected(second, f"{at:.0f} s: {kind.name}: {wrong}")
        elif reply.status == 503:
            second.refused += 1
        elif kind.good and reply.status == 200:
            second.good_ms.append(taken_s * 1e3)
        else:
            second.rest += 1

    def left(self, kind: Kind, at: float) -> None:
        """Count a caller who did not wait."""
        self.statuses.setdefault(kind.name, Counter())["left"] += 1
        self._second(at).rest += 1

    def failed(self, kind: Kind, at: float, error: Exception) -> None:
        """Count a request that could not even be sent."""
        self.statuses.setdefault(kind.name, Counter())["lost"] += 1
        self._unexpected(self._second(at), f"{at:.0f} s: {kind.name}: {error!r}")

    def told(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "kinds": [
                [name, dict(counts), *self._percentiles(name)]
                for name, counts in self.statuses.items()
            ],
            "seconds": [self._seconds[at].told(at) for at in sorted(self._seconds)],
            "unexpected": self.unexpected,
            "examples": self.examples,
        }

    def _percentiles(self, name: str) -> list[float]:
        return [percentile(self.latencies_ms.get(name, []), part) for part in (0.5, 0.99)]

    def _unexpected(self, second: "Second", what: str) -> None:
        self.unexpected += 1
        second.unexpected += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(what)

    def _second(self, at: float) -> "Second":
        return self._seconds.setdefault(int(at), Second())


class Second:
    """What was answered within one second."""

    def __init__(self) -> None:
        self.good_ms: list[float] = []
        self.refused = self.rest = self.unexpected = 0

    def told(self, at: int) -> list[float]:
        """The second, how many were answered well, refused, answered otherwise and unexpectedly,
        and p50 and p99 of the good ones in milliseconds.
        """
        taken = [percentile(self.good_ms, part) for part in (0.5, 0.99)]
        return [at, len(self.good_ms), self.refused, self.rest, self.unexpected, *taken]
