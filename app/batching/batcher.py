"""Owns the async queue: who waits, who shares a batch, and that everyone gets their own answer.

Knows nothing of images, networks or HTTP; it is given a function that runs a batch.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import chain
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from app.batching.admission import AdmissionController, Ticket
from app.batching.batch import Entry, OpenBatch, reject
from app.batching.batch_size import BatchSizer
from app.batching.costs import CostTable, Slowdown
from app.batching.request_queue import RequestQueue
from app.batching.scheduler import DeviceScheduler
from app.core.errors import NotReady

Item = TypeVar("Item")
Result = TypeVar("Result")
LaneT = TypeVar("LaneT", bound=Hashable)

CLOCK_S = 0.001  # what a timer may be early by


class Batcher(Generic[Item, Result, LaneT]):
    """The queue of one model.

    A batch is composed as late as possible: only when the device has a lane for it, and more join
    it until the lane begins. Nothing waits for company while the device is idle, unless
    `max_queue_delay_s` says so.

    Args:
        run_batch: sends a batch to a lane at once, as what the lane takes the items from when it
            begins; the future has a result for each of these, in order, or what was raised for it.
        scheduler: whose lanes the batches run on, and which other batchers may share.
        max_batch_size: items in a batch at most; what the warm-up measured may lower it.
        max_queue_size: places at most: see `AdmissionController`.
        max_queue_delay_s: how long the oldest item waits for company, in seconds.
        on_batch: called with the size and seconds of each batch that ran.

    Attributes:
        admission: who is let in, and what wait that predicts.
        sizer: how many items a batch takes.
    """

    def __init__(
        self,
        run_batch: Callable[[LaneT, Callable[[], Sequence[Item]]], asyncio.Future[Any]],
        *,
        scheduler: DeviceScheduler[LaneT],
        max_batch_size: int,
        max_queue_size: int,
        max_queue_delay_s: float = 0.0,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.admission = AdmissionController(max_queue_size)
        self.sizer = BatchSizer(max_batch_size)
        self.max_queue_delay_s = max_queue_delay_s
        self._slowdown = Slowdown()
        self._run_batch = run_batch
        self._scheduler = scheduler
        self._on_batch = on_batch
        self._queue: RequestQueue[Item, Result] = RequestQueue()
        self._running: dict[asyncio.Future[Any], OpenBatch[Item, Result]] = {}  # as they were sent
        self._last: dict[LaneT, float] = {}  # when a lane was done with the last batch
        self._leave: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._leave = self._scheduler.register(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._leave is not None:
            self._leave()
            self._leave = None
        sent = chain(*(batch.members for batch in self._running.values()))
        for waiting in [*self._queue, *sent]:
            reject(waiting.answer, NotReady("the service is shutting down"))
        self._queue.clear()
        for future in self._running:
            future.cancel()

    @property
    def alive(self) -> bool:
        """Whether items are taken."""
        return self._leave is not None

    @property
    def waiting(self) -> int:
        """The items that may be sent now: none while they wait for company."""
        complete = not self.max_queue_delay_s or len(self._queue) >= self._size(narrow=False)
        return len(self._queue) if complete or self._waited_enough() else 0

    @property
    def urgency(self) -> float:
        """The nearest deadline of an item in the queue."""
        return self._queue.urgency

    @property
    def wide_alone(self) -> bool:
        """Whether an item that is alone is best run on the whole device."""
        return self.sizer.costs.wide_alone

    @property
    def wide_only(self) -> bool:
        """Whether the model has no use for narrow lanes."""
        return not self.sizer.costs.narrow

    def prefetch(self, *, shared: bool) -> bool:
        """Whether there are batches for all, so short that lanes had better have one at hand."""
        return self.sizer.prefetch(self._crowd(), shared=shared)

    def oldest_age(self) -> float:
        """Seconds that the earliest item in the queue has waited."""
        return self._queue.oldest_age()

    def measured(self, costs: CostTable) -> None:
        """Go by what the warm-up measured."""
        self.sizer.measured(costs)
        self._predict()

    async def run(self, ticket: Ticket, item: Item, key: Hashable) -> Result:
        """Wait for a batch of items with an equal key, and return this item's own result.

        Args:
            ticket: the item's place, which `admission` gave; the batch frees it.
            item: what the batch is run on.
            key: what a batch has in common.

        Raises:
            DeadlineExceeded: the deadline passed before a batch took the item.
            ServiceError: what became of this item alone.
            Internal: the batch failed; the cause is chained.
            NotReady: the batcher was closed.
        """
        if not self.alive:
            raise NotReady("the service is shutting down")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        waiting = Entry(item, key, loop.time(), answer, ticket)
        self._queue.push(waiting)
        self._top_up()
        self._scheduler.on_arrival(self)
        if self.max_queue_delay_s:
            loop.call_later(self.max_queue_delay_s, self._scheduler.dispatch)
        try:
            return await answer
        finally:
            if answer.cancelled():
                self._queue.remove(waiting)

    def send(self, lane: LaneT, *, narrow: bool) -> bool:
        """Compose a batch and let it run on the lane; whether anything was left to run."""
        size, now = self._size(narrow=narrow), asyncio.get_running_loop().time()
        self._queue.expire_unservable(size, self._least_s(size, narrow=narrow))
        first = self._queue.peek(now)
        if first is None:
            return False
        size = self._size(narrow=narrow, within_s=first.deadline - now)
        batch: OpenBatch[Item, Result] = OpenBatch(first.key, (), narrow=narrow)
        self._queue.fill(batch, first.key, size)
        future = self._started(lane, batch)
        self._running[future] = batch
        future.add_done_callback(partial(self._done, lane, now))
        return True

    def _top_up(self) -> None:
        """Let those in the queue join batches that no lane has begun, the first of them first."""
        now = asyncio.get_running_loop().time()
        for batch in self._running.values():
            if batch.began is not None:
                continue
            room = self._size(narrow=batch.narrow, within_s=batch.deadline - now) - len(batch)
            if room > 0 and self._queue.peek(now) is not None:
                self._queue.fill(batch, batch.key, room)

    def _least_s(self, size: int, *, narrow: bool) -> float:
        """The seconds of a batch, be it that they were measured wrongly or changed since."""
        return self.sizer.batch_seconds(size, narrow=narrow) * min(1.0, self._slowdown.slowness)

    def _crowd(self) -> int:
        return len(self._queue) + sum([len(batch.members) for batch in self._running.values()])

    def _size(self, *, narrow: bool, within_s: float = inf) -> int:
        return self.sizer.batch_size(self._crowd(), narrow=narrow, within_s=within_s)

    def _waited_enough(self) -> bool:
        return self.oldest_age() >= self.max_queue_delay_s - CLOCK_S

    def _started(self, lane: LaneT, batch: OpenBatch[Item, Result]) -> asyncio.Future[Any]:
        try:
            return self._run_batch(lane, batch.close)
        except Exception as error:  # noqa: BLE001  # it belongs to the callers, not to the queue
            failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    def _done(self, lane: LaneT, sent: float, future: asyncio.Future[Any]) -> None:
        """Give the lane its next batch first, then everyone their answer."""
        batch = self._running.pop(future)
        now = asyncio.get_running_loop().time()
        seconds = now - max(sent, self._last.get(lane, sent))  # it may have had to wait there
        self._last[lane] = now
        try:
            self._scheduler.on_done(self, lane, seconds)
        finally:  # whatever becomes of the next
            batch.deliver(future)
        if batch.members:
            self._measure(batch, seconds, now)

    def _measure(self, batch: OpenBatch[Item, Result], seconds: float, now: float) -> None:
        size, sizer = len(batch), self.sizer
        self._on_batch(size, seconds)
        sizer.on_success(size)
        self._slowdown.batch_ended(
            now,
            taken_s=seconds,
            cost_s=sizer.batch_seconds(size, narrow=batch.narrow),
            lanes=sizer.costs.lanes if batch.narrow else 1,
            busy=self._scheduler.busy,
        )
        self._predict()

    def _predict(self) -> None:
        sizer, slowness = self.sizer, self._slowdown.slowness
        per_item = sizer.seconds_per_item * slowness
        self.admission.seconds_per_item = max(per_item, sizer.pool_s)
        self.admission.batch_s = sizer.largest_s * slowness
