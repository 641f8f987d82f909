"""The cases of a burst, and the result of each."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.common.cpu import UsageDelta
from bench.common.resources import ResourceSample
from bench.serving import burst
from bench.serving.burst import Times
from bench.serving.records import Record

CALM = 0.3  # fraction of the capacity that is offered before and after the burst


class Case(NamedTuple):
    """A service and a burst.

    Attributes:
        network: the network that is served.
        timeout_s: the service's `--request-timeout-s`.
        concurrency: clients of the closed loop that measures the capacity.
        seconds: length of the burst.
        factor: offered rate as a multiple of the capacity.
        workers: replicas.
        runtime: the service's `--runtime`.
    """

    network: str
    timeout_s: float
    concurrency: int
    seconds: float
    factor: float
    workers: int
    runtime: str = "auto"

    def __str__(self) -> str:
        replicas = f", {self.workers} replicas" if self.workers > 1 else ""
        return f"{self.network}, {self.timeout_s:g} s{replicas}"


class CaseResult(NamedTuple):
    """The measurements of one case.

    Attributes:
        case: the case.
        capacity: images per second before the burst.
        records: all requests.
        times: start and end of the burst.
        cpu: CPU use during the burst.
        samples: the service's memory over the whole time.
        unsent: requests that were due while no connection was free.
        unanswered: requests without a response at the end.
        capacity_after: images per second after everything.
    """

    case: Case
    capacity: float
    records: Sequence[Record]
    times: Times
    cpu: UsageDelta
    samples: Sequence[ResourceSample]
    unsent: int
    unanswered: int
    capacity_after: float = 0.0

    @property
    def calm_rate(self) -> float:
        """The requests per second before and after the burst."""
        return CALM * self.capacity

    @property
    def burst(self) -> list[Record]:
        """The requests of the burst."""
        return burst.during(self.records, self.times)

    @property
    def refused(self) -> list[Record]:
        """The refused requests of the burst."""
        return burst.refused(self.burst)

    @property
    def accepted(self) -> list[Record]:
        """The accepted requests of the burst."""
        return burst.accepted(self.burst)

    @property
    def answered(self) -> list[Record]:
        """The accepted requests of the burst with a response in time."""
        return [one for one in self.accepted if one.status == 200]

    @property
    def before(self) -> list[Record]:
        """The requests before the burst."""
        return [one for one in self.records if one.due < self.times.begins]
