"""Decides which queue uses a device next, and on which lane.

The wide lane has the whole device, a narrow lane has one core. The wide lane and the narrow lanes
never run at the same time: if threads compete for the cores, a small network takes several times
as long. A single image gets the wide lane; if several images wait, each core takes some of them.
If batches are short, a core gets its next batch while it runs one, because it would otherwise be
idle until the event loop has its turn.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

AnyLane = TypeVar("AnyLane", bound=Hashable)
TargetLane = TypeVar("TargetLane", bound=Hashable, contravariant=True)
MAX_PREFETCHED = 2  # batches on a narrow lane, the running one included, with `prefetch`


class BatchSource(Protocol[TargetLane]):
    """What the scheduler needs of a queue."""

    @property
    def waiting(self) -> int:
        """Number of items that may be sent now."""
        ...

    @property
    def urgency(self) -> float:
        """The nearest deadline of a waiting item; infinite if there is none."""
        ...

    @property
    def wide_alone(self) -> bool:
        """Whether the wide lane is best for a single item."""
        ...

    @property
    def wide_only(self) -> bool:
        """Whether the queue does not use narrow lanes."""
        ...

    def prefetch(self, *, shared: bool) -> bool:
        """Whether a narrow lane gets its next batch while it runs one.

        Args:
            shared: whether other queues use the device, too.
        """
        ...

    def send(self, lane: TargetLane, *, narrow: bool) -> bool:
        """Compose a batch and send it to the lane; False if there was nothing left to run."""
        ...


class DeviceScheduler(Generic[AnyLane]):
    """The lanes of a device, and the queues that share them.

    The queue that has used the least device time is next; between equals, the one with the nearest
    deadline. So a model with costly batches cannot starve another one.

    Args:
        wide: the lane with the whole device.
        narrow: a lane for each core; none if the device has no cores.
        depth: maximum number of batches on the wide lane; with 2, one is staged while another runs.

    Attributes:
        lost: why the device cannot compute any more, or None.
    """

    def __init__(self, wide: AnyLane, narrow: Sequence[AnyLane] = (), *, depth: int = 1) -> None:
        self.wide = wide
        self.narrow = tuple(narrow)
        self.lost: str | None = None
        self._depth = depth
        self._running: Counter[AnyLane] = Counter()  # batches on each lane
        self._used: dict[BatchSource[AnyLane], float] = {}  # device seconds of each queue
        self._clock = 0.0  # device seconds of the queue that was served last

    @property
    def lanes(self) -> tuple[AnyLane, ...]:
        """All lanes, the wide one first."""
        return (self.wide, *self.narrow)

    @property
    def busy(self) -> bool:
        """Whether the wide lane or every narrow lane runs."""
        narrow = bool(self.narrow) and all(self._running[lane] for lane in self.narrow)
        return narrow or bool(self._running[self.wide])

    def register(self, queue: BatchSource[AnyLane]) -> Callable[[], None]:
        """Let a queue use the device; the returned function ends that."""

        def unregister() -> None:
            self._used.pop(queue, None)

        self._used[queue] = self._clock
        return unregister

    def on_arrival(self, queue: BatchSource[AnyLane]) -> None:
        """Dispatch after an item became ready in a queue."""
        waiting = self._waiting()
        if waiting.get(queue) == 1:  # the time in which the queue was idle gives it no advantage
            self._used[queue] = max(self._used[queue], self._clock)
        self._dispatch(waiting)

    def on_done(self, queue: BatchSource[AnyLane], lane: AnyLane, seconds: float) -> None:
        """Dispatch after a batch of a queue has left a lane, on which it ran for some seconds."""
        self._running[lane] -= 1
        if queue in self._used:
            self._used[queue] += seconds / (1 if lane == self.wide else len(self.narrow))
        self.dispatch()

    def dispatch(self) -> None:
        """Send batches while there is a lane for the queue that is next."""
        self._dispatch(self._waiting())

    def _waiting(self) -> Mapping[BatchSource[AnyLane], int]:
        """The queues that may send now, with the number of their items."""
        return {queue: count for queue in self._used if (count := queue.waiting)}

    def _dispatch(self, waiting: Mapping[BatchSource[AnyLane], int]) -> None:
        while waiting:
            queue = next(iter(waiting)) if len(waiting) == 1 else min(waiting, key=self._turn)
            lane = self._lane_for(queue, alone=sum(waiting.values()) == 1)
            if lane is None:
                return
            self._clock = max(self._clock, self._used[queue])
            self._running[lane] += 1
            if not queue.send(lane, narrow=lane != self.wide):
                self._running[lane] -= 1
            waiting = self._waiting()

    def _turn(self, queue: BatchSource[AnyLane]) -> tuple[float, float]:
        return self._used[queue], queue.urgency

    def _lane_for(self, queue: BatchSource[AnyLane], *, alone: bool) -> AnyLane | None:
        """The lane that the queue may use now, or None."""
        batches = [self._running[lane] for lane in self.narrow]
        narrow_busy = any(batches)
        wide = not self.narrow or queue.wide_only
        if wide or (alone and not narrow_busy and queue.wide_alone):
            free = not narrow_busy and self._running[self.wide] < self._depth
            return self.wide if free else None
        fewest = min(batches)
        if self._running[self.wide] or fewest >= MAX_PREFETCHED:
            return None
        if fewest and not queue.prefetch(shared=len(self._used) > 1):
            return None
        return self.narrow[batches.index(fewest)]
