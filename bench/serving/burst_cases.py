"""Owns the cases of a burst: what is asked of which service, and all that was found.

Knows nothing of how it was measured, nor of how it is shown.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bench.common.cpu import Share
from bench.common.resources import Held
from bench.serving import burst
from bench.serving.burst import Times
from bench.serving.records import Record

CALM = 0.3  # of the capacity: what is asked before and after the burst


class Case(NamedTuple):
    """What is asked of which service.

    Attributes:
        timeout_s: the service's REQUEST_TIMEOUT_S; seconds: of the burst.
        factor: how many times its capacity is asked of it.
        workers: replicas; concurrency: of those who show what the capacity is.
        runtime: the service's RUNTIME.
    """

    network: str
    timeout_s: float
    seconds: float
    factor: float
    workers: int
    concurrency: int = 32
    runtime: str = "auto"

    def __str__(self) -> str:
        replicas = f", {self.workers} replicas" if self.workers > 1 else ""
        return f"{self.network}, {self.timeout_s:g} s{replicas}"


class Found(NamedTuple):
    """What was measured in one case.

    Attributes:
        capacity: images a second before the burst; again: after everything.
        share: of the processor, during the burst.
        samples: of the service's memory, all the time.
        unsent: requests for which there was no connection left.
        unanswered: requests that had no answer at the end.
    """

    case: Case
    capacity: float
    records: Sequence[Record]
    times: Times
    share: Share
    samples: Sequence[Held]
    unsent: int
    unanswered: int
    again: float = 0.0

    @property
    def few(self) -> float:
        """The requests a second before and after the burst."""
        return CALM * self.capacity

    @property
    def burst(self) -> list[Record]:
        """The requests of the burst."""
        return burst.during(self.records, self.times)

    @property
    def refused(self) -> list[Record]:
        """Those of the burst that were not let in."""
        return burst.refused(self.burst)

    @property
    def admitted(self) -> list[Record]:
        """Those of the burst that were."""
        return burst.admitted(self.burst)

    @property
    def answered(self) -> list[Record]:
        """Those of the burst that were answered in time."""
        return [one for one in self.admitted if one.status == 200]

    @property
    def before(self) -> list[Record]:
        """Those that came before the burst."""
        return [one for one in self.records if one.due < self.times.begins]
