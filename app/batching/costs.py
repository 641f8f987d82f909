"""Measured batch costs of a model on a device, and how much slower the device is now."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Table = Mapping[int, float]  # seconds of a batch by batch size, smallest size first

TOLERANCE = 1.03  # a cost per image up to this multiple of the lowest counts as equally good
BATCH_OVERHEAD_S = 0.001  # of the event loop and of the threads that a batch on the wide lane wakes
OVERHEAD_BATCH_S = 0.01  # longest batch that may be larger because of this overhead
LONG_BATCH_S = 0.25  # longest batch under load, so that other requests are not delayed noticeably
SLOWDOWN_WEIGHT = 0.1  # of one batch: the last twenty batches have most influence


@dataclass(frozen=True)
class CostTable:
    """The cost tables of one model.

    Attributes:
        wide: on the wide lane, which has the whole device.
        narrow: on a lane with one core, while all other narrow lanes run; empty if the model does
            not use narrow lanes.
        lanes: number of narrow lanes.
    """

    wide: Table
    narrow: Table = field(default_factory=dict)
    lanes: int = 1

    @property
    def wide_alone(self) -> bool:
        """Whether the wide lane is faster for a single image in an otherwise empty queue."""
        return not self.narrow or self.wide[1] < self.narrow[1]

    @property
    def slowest(self) -> float:
        """Seconds of the slowest measured batch."""
        return max([*self.wide.values(), *self.narrow.values()])

    def seconds(self, size: int, *, narrow: bool) -> float:
        """Seconds of a batch of the next measured size, `size` or larger; 0 if there is none."""
        table = self.narrow if narrow else self.wide
        return next((seconds for known, seconds in table.items() if known >= size), 0.0)

    def sizes(self, *, narrow: bool, overhead_s: float = 0.0) -> list[tuple[int, float]]:
        """Useful batch sizes with the seconds of a batch, largest first.

        Args:
            narrow: for narrow lanes or for the wide one.
            overhead_s: seconds that the lane spends on each image besides the batch, for example to
                decode it; the more seconds, the less a large batch saves.
        """
        table = self.narrow if narrow else self.wide
        total = {size: seconds + size * overhead_s for size, seconds in table.items()}
        largest = throughput_batch_size(total) if narrow else wide_batch_size(total)
        return sorted(((n, seconds) for n, seconds in total.items() if n <= largest), reverse=True)


def latency_batch_size(table: Table) -> int:
    """Smallest batch size with a near-optimal cost per image."""
    return min(_near_optimal(table))


def wide_batch_size(table: Table) -> int:
    """Smallest near-optimal batch size, counting also what a short batch costs besides its run."""
    smallest = latency_batch_size(table)
    short = {size: s for size, s in table.items() if size <= smallest or s <= OVERHEAD_BATCH_S}
    with_overhead = {size: seconds + BATCH_OVERHEAD_S for size, seconds in short.items()}
    return max(smallest, latency_batch_size(with_overhead))


def throughput_batch_size(table: Table) -> int:
    """Largest near-optimal size of a batch that takes at most 0.25 s; used under load.

    With larger batches, fewer batches go to the lanes. If all take longer, it is the smallest size.
    """
    sizes = _near_optimal(table)
    return max((size for size in sizes if table[size] <= LONG_BATCH_S), default=min(sizes))


def _near_optimal(table: Table) -> list[int]:
    best = min(seconds / size for size, seconds in table.items())
    return [size for size, seconds in table.items() if seconds <= TOLERANCE * best * size]


class MovingAverage:
    """Exponential moving average of samples.

    Args:
        value: the initial average.
        weight: share of each new sample; the last 2 / `weight` samples have most of the influence.

    Attributes:
        value: the current average.
    """

    def __init__(self, value: float, weight: float) -> None:
        self.value = value
        self._weight = weight

    def add(self, sample: float) -> None:
        """Move the average toward a new sample."""
        self.value += self._weight * (sample - self.value)


class Slowdown:
    """How much slower the device is now than at warm-up, as a moving average.

    It compares the time between the ends of two batches with the cost of the second one, and only
    while no lane was idle: the duration of one batch does not show the other work on the device. If
    a lane was idle, the duration of the batch gives an upper bound.

    Attributes:
        slowness: 1 if batches end as often as their costs predict, 2 if half as often.
    """

    def __init__(self) -> None:
        self.slowness = MovingAverage(1.0, SLOWDOWN_WEIGHT)
        self._busy_since: float | None = None

    def batch_ended(
        self, now: float, *, taken_s: float, cost_s: float, lanes: int, busy: bool
    ) -> None:
        """Add the measurement of a batch that has ended.

        Args:
            now: time of the end, in seconds.
            taken_s: seconds that the batch took on its lane.
            cost_s: seconds that it should take on this lane; 0 if unknown.
            lanes: number of lanes that run such batches at the same time.
            busy: whether no lane is idle from now on.
        """
        if cost_s > 0:
            if self._busy_since is not None:
                self.slowness.add((now - self._busy_since) * lanes / cost_s)
            else:
                self.slowness.value = min(self.slowness.value, taken_s / cost_s)
        self._busy_since = now if busy else None
