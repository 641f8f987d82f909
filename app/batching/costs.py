"""Owns what a model's batches cost on a device, as its warm-up measured it, and what follows.

Knows nothing of how it was measured, nor of who waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Table = Mapping[int, float]  # the seconds of a batch, by its size, the smallest first

TOLERANCE = 1.03  # a batch this much dearer by the image than the best is as good
LONG_S = 0.25  # seconds of a batch that others would notice


@dataclass(frozen=True)
class CostTable:
    """The cost tables of one model.

    Attributes:
        wide: on the lane that has the whole device.
        narrow: on a lane that has one core, while the others are at work too; empty where the
            model has no use for such lanes.
        lanes: how many narrow lanes there are.
    """

    wide: Table
    narrow: Table = field(default_factory=dict)
    lanes: int = 1

    @property
    def wide_alone(self) -> bool:
        """Whether one image that nothing waits behind is sooner done on the whole device."""
        return not self.narrow or self.wide[1] < self.narrow[1]

    @property
    def slowest(self) -> float:
        """The seconds of the slowest batch that was measured."""
        return max([*self.wide.values(), *self.narrow.values()])

    def seconds(self, size: int, *, narrow: bool) -> float:
        """The seconds of a batch of any size on a lane: those of the next measured one."""
        table = self.narrow if narrow else self.wide
        return next((seconds for known, seconds in table.items() if known >= size), 0.0)

    def sizes(self, *, narrow: bool, overhead_s: float = 0.0) -> list[tuple[int, float]]:
        """The sizes of which a batch may be, the best for throughput first, with their seconds.

        Args:
            narrow: for which lanes.
            overhead_s: the seconds that the lane spends on each image by itself, such as decoding
                it; the larger it is, the less a large batch gains.
        """
        table = self.narrow if narrow else self.wide
        whole = {size: seconds + size * overhead_s for size, seconds in table.items()}
        best = throughput_batch_size(whole) if narrow else latency_batch_size(whole)
        return sorted(((n, seconds) for n, seconds in whole.items() if n <= best), reverse=True)


def latency_batch_size(table: Table) -> int:
    """The smallest measured batch size within three hundredths of the best cost per image."""
    return min(_worth(table))


def throughput_batch_size(table: Table) -> int:
    """The largest of them that is over soon, for who must wait anyway: fewer are handed over."""
    worth = _worth(table)
    return max((size for size in worth if table[size] <= LONG_S), default=min(worth))


def _worth(table: Table) -> list[int]:
    best = min(map(_per_image, table.items()))
    return [size for size, seconds in table.items() if seconds <= TOLERANCE * best * size]


def _per_image(entry: tuple[int, float]) -> float:
    size, seconds = entry
    return seconds / size


SMOOTHING = 0.1  # of what a batch tells: the last twenty decide


class Slowdown:
    """How much slower than measured the device serves a queue, on the average of late.

    Only the time between the ends of two batches tells it, and only while no lane was idle: what a
    batch takes by itself says nothing of the others that share the device. A batch that had idle
    lanes beside it tells how slow it is at most.

    Attributes:
        slowness: 1 where batches end as often as their costs say, 2 where half as often.
    """

    def __init__(self) -> None:
        self.slowness = 1.0
        self._busy_since: float | None = None

    def batch_ended(
        self, now: float, *, taken_s: float, cost_s: float, lanes: int, busy: bool
    ) -> None:
        """Know that a batch has ended.

        Args:
            now: when, in seconds.
            taken_s: its own seconds on its lane.
            cost_s: the seconds that it should take there.
            lanes: how many such batches run at once.
            busy: whether no lane is idle from now on.
        """
        if cost_s > 0:
            if self._busy_since is not None:
                ratio = (now - self._busy_since) * lanes / cost_s
                self.slowness += SMOOTHING * (ratio - self.slowness)
            else:
                self.slowness = min(self.slowness, taken_s / cost_s)
        self._busy_since = now if busy else None
