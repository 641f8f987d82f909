"""Counts of the soak's responses: by kind, by second, and the unexpected ones."""

import json
from collections import Counter
from contextlib import suppress
from typing import Any

from bench.serving.summary import percentile
from bench.soaking.client import Response
from bench.soaking.kinds import BUSY, Kind

EXAMPLES = 50  # unexpected responses that are kept; more are only counted
PROBLEM = "application/problem+json"


def fault(kind: Kind, response: Response, busy: bool) -> str:
    """Return what is wrong with a response; nothing if its kind allows it.

    Args:
        kind: the kind of the request.
        response: the response.
        busy: whether there was a burst: requests for work may then be refused.
    """
    expected = {**kind.expected, **BUSY} if busy and kind.work else kind.expected
    shown = f"{response.status} {response.body[:200].decode(errors='replace')}"
    if response.status not in expected:
        return shown
    code = expected[response.status]
    if not code:
        good = response.media == kind.media and response.body
        return "" if good else f"{response.media}: {shown}"
    problem: Any = None
    with suppress(ValueError):
        problem = json.loads(response.body)
    right = isinstance(problem, dict) and problem.get("code") == code
    right = right and problem.get("status") == response.status and response.media == PROBLEM
    if response.status == 503:
        header = b"\r\nretry-after: " in response.head.lower()
        right = right and header and "retry_after_ms" in problem
    return "" if right else f"{response.media}: {shown}"


class Tally:
    """The counts of one run; times are in seconds from its start."""

    def __init__(self) -> None:
        self.statuses: dict[str, Counter[str]] = {}
        self.latencies_ms: dict[str, list[float]] = {}
        self.unexpected = 0
        self.examples: list[str] = []
        self._seconds: dict[int, Second] = {}

    def add(self, kind: Kind, at: float, taken_s: float, response: Response, wrong: str) -> None:
        """Count a response and, if `wrong` is not empty, its fault."""
        second = self._second(at)
        self.statuses.setdefault(kind.name, Counter())[str(response.status or "lost")] += 1
        self.latencies_ms.setdefault(kind.name, []).append(taken_s * 1e3)
        if wrong:
            self._unexpected(second, f"{at:.0f} s: {kind.name}: {wrong}")
        elif response.status == 503:
            second.refused += 1
        elif kind.work and response.status == 200:
            second.results_ms.append(taken_s * 1e3)
        else:
            second.rest += 1

    def disconnected(self, kind: Kind, at: float) -> None:
        """Count a client that disconnected without waiting for the response."""
        self.statuses.setdefault(kind.name, Counter())["disconnected"] += 1
        self._second(at).rest += 1

    def failed(self, kind: Kind, at: float, error: Exception) -> None:
        """Count a request that could not be sent."""
        self.statuses.setdefault(kind.name, Counter())["lost"] += 1
        self._unexpected(self._second(at), f"{at:.0f} s: {kind.name}: {error!r}")

    def report(self) -> dict[str, Any]:
        """Return all counts for JSON."""
        return {
            "kinds": [
                [name, dict(counts), *self._percentiles(name)]
                for name, counts in self.statuses.items()
            ],
            "seconds": [self._seconds[at].fields(at) for at in sorted(self._seconds)],
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
    """The responses within one second."""

    def __init__(self) -> None:
        self.results_ms: list[float] = []
        self.refused = self.rest = self.unexpected = 0

    def fields(self, at: int) -> list[float]:
        """Return the second, the numbers of results, refusals, other expected and unexpected
        responses, and p50 and p99 of the results in milliseconds.
        """
        latencies = [percentile(self.results_ms, part) for part in (0.5, 0.99)]
        counts = [len(self.results_ms), self.refused, self.rest, self.unexpected]
        return [at, *counts, *latencies]
