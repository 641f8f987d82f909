"""Owns how fast a queue drains: how the time between batches compares with their measured cost.

Knows nothing of who waits, nor of how the cost was measured.
"""

SMOOTHING = 0.1  # of what a batch tells: the last twenty decide


class Drain:
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
