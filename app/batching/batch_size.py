"""Sizes of the batches of one queue: by measured costs, load and device memory."""

from math import ceil, inf

from app.batching.costs import LONG_BATCH_S, CostTable, MovingAverage

SHORT_BATCH_S = 0.05  # a batch that other models hardly notice if it runs before theirs
ITEM_WEIGHT = 0.05  # of one item: the last forty items have most of the influence
MIN_CHANGE = 0.01  # relative change of the overhead after which the sizes are computed again
SUCCESSES_BEFORE_GROWTH = 50  # batches at the memory limit before one more item is tried


class BatchSizer:
    """The batch sizes of one queue.

    Args:
        max_batch_size: most items in a batch; the warm-up may lower it.

    Attributes:
        costs: measured costs of batches on the lanes.
        overhead_s: seconds that a lane spends on each item besides the batch.
        limit: most items in a batch that fit into the device's memory.
    """

    def __init__(self, max_batch_size: int) -> None:
        self.costs = CostTable({max_batch_size: 0.0})  # until the warm-up
        self.overhead_s = MovingAverage(0.0, ITEM_WEIGHT)
        self.limit = self._max_batch_size = max_batch_size
        self._successes = 0
        self._sizes: dict[bool, list[tuple[int, float]]] = {}  # cache, by `narrow`
        self._cached_overhead_s = 0.0  # the overhead that the cache was computed for

    @property
    def largest(self) -> int:
        """Items of a batch under load."""
        return self._best(narrow=bool(self.costs.narrow))

    def seconds_under_load(self) -> tuple[float, float]:
        """Seconds of a batch under load on its lane, and of the network for one of its images."""
        narrow, size = bool(self.costs.narrow), self.largest
        batch_s = self.batch_seconds(size, narrow=narrow)
        return batch_s, self.costs.seconds(size, narrow=narrow) / size

    def measured(self, costs: CostTable) -> None:
        """Use the costs that the warm-up measured."""
        self.costs = costs
        self._sizes.clear()

    def observe_lane_overhead(self, seconds: float) -> None:
        """Add the seconds that a lane spent on an item besides its batch."""
        self.overhead_s.add(seconds)
        change = abs(self.overhead_s.value - self._cached_overhead_s)
        if change > MIN_CHANGE * self._cached_overhead_s:
            self._sizes.clear()
            self._cached_overhead_s = self.overhead_s.value

    def batch_seconds(self, size: int, *, narrow: bool) -> float:
        """Expected seconds of a batch on its lane."""
        return self.costs.seconds(size, narrow=narrow) + size * self.overhead_s.value

    def batch_size(self, load: int, *, narrow: bool, within_s: float = inf) -> int:
        """Most items of a batch.

        Each narrow lane gets an equal share of the load in two batches: it runs one, and one waits.
        Fewer and larger batches would leave lanes idle and deliver results in bursts.

        Args:
            load: number of items that wait or run.
            narrow: for a narrow lane or for the wide one.
            within_s: seconds until the deadline of the most urgent item.
        """
        best = self._best(narrow=narrow, within_s=within_s)
        return min(best, max(1, ceil(load / (2 * self.costs.lanes)))) if narrow else best

    def prefetch(self, load: int, *, shared: bool) -> bool:
        """Whether a narrow lane gets its next batch while it runs one.

        It does if there are batches for all lanes, and if they are short.

        Args:
            load: number of items that wait or run.
            shared: whether other models use the lanes, too; they then wait one batch longer.
        """
        if load < 2 * self.costs.lanes:
            return False
        seconds = self.batch_seconds(self.batch_size(load, narrow=True), narrow=True)
        return seconds < (SHORT_BATCH_S if shared else LONG_BATCH_S)

    def on_out_of_memory(self, size: int) -> None:
        """Lower the limit: a batch of this size did not fit."""
        self.limit, self._successes = max(1, min(self.limit, size // 2)), 0

    def on_success(self, size: int) -> None:
        """Count a batch that has run; after enough batches at the limit, raise it by one item."""
        if size < self.limit or self.limit == self._max_batch_size:
            return
        self._successes += 1
        if self._successes == SUCCESSES_BEFORE_GROWTH:
            self.limit, self._successes = self.limit + 1, 0

    def _best(self, *, narrow: bool, within_s: float = inf) -> int:
        """The largest useful size that fits; cached, because it is asked for every arrival."""
        sizes = self._sizes.get(narrow)
        if sizes is None:
            sizes = self._sizes[narrow] = self.costs.sizes(
                narrow=narrow, overhead_s=self.overhead_s.value
            )
        return next((min(size, self.limit) for size, seconds in sizes if seconds <= within_s), 1)
