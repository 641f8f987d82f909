"""Owns how many items a batch takes: by what batches cost, by the crowd, and by memory.

Knows nothing of who waits, nor of how a batch is run.
"""

from math import ceil, inf

from app.batching.costs import LONG_S, CostTable

SHORT_S = 0.05  # of a batch: others hardly notice that one more of it is before theirs
SMOOTHING = 0.05  # of what an item adds to a batch: the last forty decide
NOTICED = 0.01  # by which part that must change before sizes are chosen anew: it is done for all
SUCCESSES_BEFORE_GROWTH = 50  # batches as large as memory allowed: then one more item is tried


class BatchSizer:
    """The sizes of one queue's batches.

    Args:
        max_batch_size: items in a batch at most; what the warm-up measures may lower it.

    Attributes:
        costs: what batches cost on the lanes.
        overhead_s: the seconds of a batch that each item adds to these, on the average of late.
        pool_s: the seconds between two items that other threads than the lanes allow, who
            decode and encode, on the average of late; 0 where the lanes do that.
        limit: items in a batch at most, since more did not fit into the device's memory.
    """

    def __init__(self, max_batch_size: int) -> None:
        self.costs = CostTable({max_batch_size: 0.0})  # until they are measured
        self.overhead_s = 0.0
        self.pool_s = 0.0
        self.limit = self._most = max_batch_size
        self._successes = 0
        self._sizes: dict[bool, list[tuple[int, float]]] = {}  # by whether the lanes are narrow
        self._sized_for_overhead_s = 0.0  # beside each item, they were chosen

    @property
    def largest(self) -> int:
        """The items of a batch when many wait."""
        return self._best(narrow=bool(self.costs.narrow))

    @property
    def largest_s(self) -> float:
        """The seconds of such a batch."""
        return self.batch_seconds(self.largest, narrow=bool(self.costs.narrow))

    @property
    def seconds_per_item(self) -> float:
        """The seconds between two items when many wait and the device is all theirs."""
        lanes = self.costs.lanes if self.costs.narrow else 1
        return self.largest_s / self.largest / lanes

    def measured(self, costs: CostTable) -> None:
        """Go by what the warm-up measured."""
        self.costs = costs
        self._sizes.clear()

    def observe_lane_overhead(self, seconds: float) -> None:
        """Know that an item took so long by itself, on the lane that ran its batch."""
        self.overhead_s += SMOOTHING * (seconds - self.overhead_s)
        if abs(self.overhead_s - self._sized_for_overhead_s) > NOTICED * self._sized_for_overhead_s:
            self._sizes.clear()
            self._sized_for_overhead_s = self.overhead_s

    def observe_pool_time(self, seconds: float) -> None:
        """Know that other threads would give the lanes one item in so many seconds."""
        self.pool_s += SMOOTHING * (seconds - self.pool_s)

    def batch_seconds(self, size: int, *, narrow: bool) -> float:
        """The seconds that a batch should take on its lane."""
        return self.costs.seconds(size, narrow=narrow) + size * self.overhead_s

    def batch_size(self, crowd: int, *, narrow: bool, within_s: float = inf) -> int:
        """The items of a batch at most.

        Of all that wait or run, each narrow lane has two batches: one runs, one waits for that.
        Fewer but larger ones would let lanes idle, and be answered in bursts.

        Args:
            crowd: how many wait or run.
            narrow: for which lanes.
            within_s: the seconds that the most urgent item has left.
        """
        best = self._best(narrow=narrow, within_s=within_s)
        return min(best, max(1, ceil(crowd / (2 * self.costs.lanes)))) if narrow else best

    def prefetch(self, crowd: int, *, shared: bool) -> bool:
        """Whether there are batches for all, so short that lanes had better have one at hand.

        Args:
            crowd: how many wait or run.
            shared: whether the lanes are other models' too, which then wait a batch longer.
        """
        if crowd < 2 * self.costs.lanes:
            return False
        seconds = self.batch_seconds(self.batch_size(crowd, narrow=True), narrow=True)
        return seconds < (SHORT_S if shared else LONG_S)

    def on_out_of_memory(self, size: int) -> None:
        """Know that so many items did not fit."""
        self.limit, self._successes = max(1, min(self.limit, size // 2)), 0

    def on_success(self, size: int) -> None:
        """Know that a batch of so many has been run: after many, memory may allow one more."""
        if size < self.limit or self.limit == self._most:
            return
        self._successes += 1
        if self._successes == SUCCESSES_BEFORE_GROWTH:
            self.limit, self._successes = self.limit + 1, 0

    def _best(self, *, narrow: bool, within_s: float = inf) -> int:
        """The best size for throughput that fits; asked with every item that comes."""
        sizes = self._sizes.get(narrow)
        if sizes is None:
            sizes = self._sizes[narrow] = self.costs.sizes(
                narrow=narrow, overhead_s=self.overhead_s
            )
        return next((min(size, self.limit) for size, seconds in sizes if seconds <= within_s), 1)
