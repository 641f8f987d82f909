"""Owns who may use a device next, and on which of its lanes.

Knows nothing of images, nor of what a batch is: queues tell how urgent they are, and send it.

A lane is wide, having the whole device, or narrow, having one core of it. Wide and narrow never
run at once: threads that fight for the cores cost a small network several times its time. The
wide one is for an image that is alone; when several wait, each core takes some. Where batches are
short enough, a core is given the next while it runs one: it would idle until the loop had its turn.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

LaneT = TypeVar("LaneT", bound=Hashable)
HELD_AHEAD = 2  # batches that a narrow lane holds, where the queue says so
SentLaneT = TypeVar("SentLaneT", bound=Hashable, contravariant=True)


class BatchSource(Protocol[SentLaneT]):
    """What a device asks of a queue that uses it."""

    @property
    def waiting(self) -> int:
        """The items that may be sent now."""
        ...

    @property
    def urgency(self) -> float:
        """The deadline of the most urgent of them; infinite without any."""
        ...

    @property
    def wide_alone(self) -> bool:
        """Whether an item that is alone is best sent to the wide lane."""
        ...

    @property
    def wide_only(self) -> bool:
        """Whether nothing may be sent to a narrow lane."""
        ...

    def prefetch(self, *, shared: bool) -> bool:
        """Whether a narrow lane shall have a batch at hand while it runs another.

        `shared` says whether other queues use it too.
        """
        ...

    def send(self, lane: SentLaneT, *, narrow: bool) -> bool:
        """Compose a batch and let it run on the lane; whether there was anything to run."""
        ...


class DeviceScheduler(Generic[LaneT]):
    """The lanes of a device, and the queues that share it.

    Queues take turns by urgency, their deadlines put off by the device time that each has used:
    a model with costly batches cannot starve another.

    Args:
        wide: the lane over the whole device.
        narrow: a lane for each core; none where the device is not made of cores.
        depth: batches that the wide lane holds; with 2, one is staged while another runs.

    Attributes:
        lost: why it computes nothing any more, or None.
    """

    def __init__(self, wide: LaneT, narrow: Sequence[LaneT] = (), *, depth: int = 1) -> None:
        self.wide = wide
        self.narrow = tuple(narrow)
        self.lost: str | None = None
        self._depth = depth
        self._running: Counter[LaneT] = Counter()
        self._used: dict[BatchSource[LaneT], float] = {}
        self._clock = 0.0  # the device time used by the queue that was served last

    @property
    def lanes(self) -> tuple[LaneT, ...]:
        """All of them, the wide one first."""
        return (self.wide, *self.narrow)

    @property
    def busy(self) -> bool:
        """Whether no lane is idle that could help: the wide one runs, or all the narrow ones."""
        narrow = bool(self.narrow) and all(self._running[lane] for lane in self.narrow)
        return narrow or bool(self._running[self.wide])

    def register(self, queue: BatchSource[LaneT]) -> Callable[[], None]:
        """Let a queue use the device; the function that is returned lets it leave."""

        def leave() -> None:
            self._used.pop(queue, None)

        self._used[queue] = self._clock
        return leave

    def on_arrival(self, queue: BatchSource[LaneT]) -> None:
        """Tell that a queue may have become able to send: it is sent now what can be."""
        if queue.waiting == 1:  # it was idle, and has saved nothing by that
            self._used[queue] = max(self._used[queue], self._clock)
        self.dispatch()

    def on_done(self, queue: BatchSource[LaneT], lane: LaneT, seconds: float) -> None:
        """Tell that a batch of the queue is done with the lane, after so many seconds."""
        self._running[lane] -= 1
        if queue in self._used:
            self._used[queue] += seconds / (1 if lane == self.wide else len(self.narrow))
        self.dispatch()

    def dispatch(self) -> None:
        """Send batches for as long as there is a lane for the queue whose turn it is."""
        while ready := [queue for queue in self._used if queue.waiting]:
            queue = ready[0] if len(ready) == 1 else min(ready, key=self._turn)
            lane = self._lane_for(queue, alone=sum(one.waiting for one in ready) == 1)
            if lane is None:
                return
            self._clock = max(self._clock, self._used[queue])
            self._running[lane] += 1
            if not queue.send(lane, narrow=lane != self.wide):
                self._running[lane] -= 1

    def _turn(self, queue: BatchSource[LaneT]) -> float:
        return queue.urgency + self._used[queue]

    def _lane_for(self, queue: BatchSource[LaneT], *, alone: bool) -> LaneT | None:
        """The lane that the queue may use now, if there is one."""
        held = [self._running[lane] for lane in self.narrow]
        narrow_runs = any(held)
        whole = not self.narrow or queue.wide_only
        if whole or (alone and not narrow_runs and queue.wide_alone):
            free = not narrow_runs and self._running[self.wide] < self._depth
            return self.wide if free else None
        fewest = min(held)
        if self._running[self.wide] or fewest >= HELD_AHEAD:
            return None
        if fewest and not queue.prefetch(shared=len(self._used) > 1):
            return None
        return self.narrow[held.index(fewest)]
