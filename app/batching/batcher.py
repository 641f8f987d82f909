"""Async batcher of one model: composes batches from its queue and returns each image's result."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import chain
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from app.batching.admission import AdmissionController
from app.batching.batch import OpenBatch
from app.batching.batch_size import BatchSizer
from app.batching.costs import LONG_BATCH_S, CostTable, Slowdown
from app.batching.entry import Entry
from app.batching.request_queue import RequestQueue
from app.batching.scheduler import DeviceScheduler
from app.core.errors import RETRY_AFTER_S, NotReady

Item = TypeVar("Item")
Result = TypeVar("Result")
AnyLane = TypeVar("AnyLane", bound=Hashable)

CONTESTED_BATCH_S = 0.01  # longest batch of a narrow lane while one client floods the queue
TIMER_RESOLUTION_S = 0.001  # a timer of the event loop may fire this much early


class Batcher(Generic[Item, Result, AnyLane]):
    """The queue and the batches of one model.

    A batch is composed as late as possible: only when the device has a lane for it, and entries are
    added until the lane starts it. An idle device never waits for a fuller batch, unless
    `max_queue_delay_s` is set.

    Args:
        run_batch: sends a batch to a lane at once. It gets a function that closes the batch and
            returns its items, which the lane calls at the start, and a function that the event loop
            may call with an item and its result before the batch is done. The future has a result
            or an exception for each item, in order.
        scheduler: assigns the lanes; other batchers may share it.
        max_batch_size: most items in a batch; the warm-up may lower it.
        max_queue_size: see `AdmissionController`.
        max_queue_delay_s: how long the oldest item may wait for a full batch, in seconds.
        image_threads: number of threads that work on an item before and after its batch; unused
            with narrow lanes, which do this work themselves.
        on_batch: called with the size and seconds of each batch that has run.

    Attributes:
        queue: the admitted entries.
        admission: admits entries to the queue.
        sizer: sizes of the batches.
    """

    def __init__(
        self,
        run_batch: Callable[
            [AnyLane, Callable[[], Sequence[Item]], Callable[[Item, Any], None]],
            asyncio.Future[Any],
        ],
        *,
        scheduler: DeviceScheduler[AnyLane],
        max_batch_size: int,
        max_queue_size: int,
        max_queue_delay_s: float = 0.0,
        image_threads: int = 1,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.queue: RequestQueue[Item, Result] = RequestQueue()
        self.admission = AdmissionController(self.queue, max_queue_size)
        self.sizer = BatchSizer(max_batch_size)
        self.max_queue_delay_s = max_queue_delay_s
        self._image_threads = image_threads
        self._slowdown = Slowdown()
        self._run_batch = run_batch
        self._scheduler = scheduler
        self._on_batch = on_batch
        self._batches: dict[asyncio.Future[Any], OpenBatch[Item, Result]] = {}  # in order of `send`
        self._last_end: dict[AnyLane, float] = {}  # of the last batch on each lane
        self._unregister: Callable[[], None] | None = None

    async def __aenter__(self) -> Self:
        self._unregister = self._scheduler.register(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._unregister is not None:
            self._unregister()
            self._unregister = None
        running = chain(*(batch.entries for batch in self._batches.values()))
        for entry in [*self.queue.waiting, *running]:
            entry.fail(_closed())
        for future in self._batches:
            future.cancel()

    @property
    def alive(self) -> bool:
        """Whether the batcher accepts items."""
        return self._unregister is not None

    @property
    def waiting(self) -> int:
        """Number of items that may be sent now: 0 while they wait for a full batch."""
        count = len(self.queue.waiting)
        complete = not self.max_queue_delay_s or count >= self._size(narrow=False)
        return count if complete or self._waited_enough() else 0

    @property
    def urgency(self) -> float:
        """The nearest deadline of a waiting item."""
        return self.queue.urgency

    @property
    def wide_alone(self) -> bool:
        """Whether the wide lane is best for a single item.

        Not if most of the work is beside the network: one core does it, and others would be idle.
        """
        flow = self.queue.waiting.next()
        extra_s = flow.items[0].extra_s if flow is not None else 0.0
        return self.sizer.costs.wide_alone and extra_s <= LONG_BATCH_S

    @property
    def wide_only(self) -> bool:
        """Whether the model does not use narrow lanes."""
        return not self.sizer.costs.narrow

    def prefetch(self, *, shared: bool) -> bool:
        """Whether a narrow lane gets its next batch while it runs one."""
        return self.sizer.prefetch(self._load(), shared=shared)

    def measured(self, costs: CostTable) -> None:
        """Use the costs that the warm-up measured."""
        self.sizer.measured(costs)
        self._update_prediction()

    async def run(self, entry: Entry[Item, Result], item: Item, key: Hashable) -> Result:
        """Wait for a batch of items with an equal key, and return this item's own result.

        Args:
            entry: from `admission`; call `run` once, within the entry's `with` block.
            item: input of the batch.
            key: items of one batch have equal keys.

        Raises:
            DeadlineExceeded: the deadline passed before a batch took the item.
            Overloaded: another client got its place in the queue.
            ServiceError: the error of this item alone.
            Internal: the batch failed; the cause is chained.
            NotReady: the batcher was closed.
        """
        if not self.alive:
            raise _closed()
        if entry.future.done():  # it was displaced while it was decoded
            return await entry.future
        self.queue.set_ready(entry, item, key)
        self._extend_open_batches()
        self._scheduler.on_arrival(self)
        if self.max_queue_delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(self.max_queue_delay_s, self._scheduler.dispatch)
        try:
            return await entry.future
        finally:
            self.admission.observe(entry)

    def send(self, lane: AnyLane, *, narrow: bool) -> bool:
        """Compose a batch and send it to the lane; False if there was nothing left to run."""
        size, now = self._size(narrow=narrow), asyncio.get_running_loop().time()
        self.queue.expire_unservable(size, self._optimistic_s(size, narrow=narrow))
        first = self.queue.peek(now)
        if first is None:
            return False
        size = self._size(narrow=narrow, within_s=first.deadline - now)
        batch: OpenBatch[Item, Result] = OpenBatch(first.key, narrow=narrow)
        self.queue.fill(batch.add, first.key, size, max(self._extra_limit(), first.extra_s))
        future = self._start(lane, batch)
        self._batches[future] = batch
        future.add_done_callback(partial(self._on_done, lane, now))
        return True

    def _extend_open_batches(self) -> None:
        """Add waiting entries to batches that no lane has started, the oldest batch first."""
        now = asyncio.get_running_loop().time()
        for batch in self._batches.values():
            if batch.started is not None:
                continue
            size = self._size(narrow=batch.narrow, within_s=batch.deadline - now)
            free = size - len(batch)
            if free > 0 and self.queue.peek(now) is not None:
                extra_s = self._extra_limit() - sum(entry.extra_s for entry in batch.entries)
                self.queue.fill(batch.add, batch.key, free, extra_s)

    def _extra_limit(self) -> float:
        """Most seconds of extra work in a batch: a few expensive images fill it."""
        return LONG_BATCH_S if self.sizer.costs.narrow else inf

    def _optimistic_s(self, size: int, *, narrow: bool) -> float:
        """Optimistic batch time: the measured cost, or less if batches have been faster lately."""
        slowness = self._slowdown.slowness.value
        return self.sizer.batch_seconds(size, narrow=narrow) * min(1.0, slowness)

    def _load(self) -> int:
        """Number of items that wait or run."""
        in_batches = sum([len(batch.entries) for batch in self._batches.values()])
        return len(self.queue.waiting) + in_batches

    def _size(self, *, narrow: bool, within_s: float = inf) -> int:
        if narrow and self.queue.contested:  # wide lanes: their batches are as small as is useful
            within_s = min(within_s, CONTESTED_BATCH_S)
        return self.sizer.batch_size(self._load(), narrow=narrow, within_s=within_s)

    def _waited_enough(self) -> bool:
        return self.queue.oldest_age() >= self.max_queue_delay_s - TIMER_RESOLUTION_S

    def _start(self, lane: AnyLane, batch: OpenBatch[Item, Result]) -> asyncio.Future[Any]:
        try:
            return self._run_batch(lane, batch.close, batch.settle)
        except Exception as error:  # noqa: BLE001  # the requests of the batch get it
            failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    def _on_done(self, lane: AnyLane, sent: float, future: asyncio.Future[Any]) -> None:
        """Send the lane its next batch first, then deliver the results."""
        batch = self._batches.pop(future)
        now = asyncio.get_running_loop().time()
        seconds = now - max(sent, self._last_end.get(lane, sent))  # without the wait for the lane
        self._last_end[lane] = now
        try:
            self._scheduler.on_done(self, lane, seconds)
        finally:  # also if the next batch could not be sent
            batch.deliver(future)
        self._measure(batch, batch.completed(future), seconds, now)

    def _measure(
        self, batch: OpenBatch[Item, Result], completed: int, seconds: float, now: float
    ) -> None:
        size, sizer = len(batch), self.sizer
        if size > 0:
            self._on_batch(size, seconds)
            sizer.on_success(size)
        # also if no item was completed: the idle time that follows must not count as a slow batch
        self._slowdown.batch_ended(
            now,
            taken_s=seconds,
            cost_s=self._cost_s(batch, completed) if completed else 0.0,
            lanes=sizer.costs.lanes if batch.narrow else 1,
            busy=self._scheduler.busy,
        )
        self._update_prediction()

    def _cost_s(self, batch: OpenBatch[Item, Result], completed: int) -> float:
        """Expected seconds of a batch on its lane, if the failed entries took no time."""
        part = completed / len(batch)
        network_s = self.sizer.costs.seconds(completed, narrow=batch.narrow)
        more_s = sum(entry.items - 1 for entry in batch.entries) * self.queue.item_s
        if self.sizer.costs.narrow:
            more_s += sum(entry.extra_s for entry in batch.entries)
        return network_s + more_s * part

    def _update_prediction(self) -> None:
        sizer, slowness, admission = self.sizer, self._slowdown.slowness.value, self.admission
        narrow = bool(sizer.costs.narrow)
        batch_s, item_s = sizer.seconds_under_load()
        self.queue.item_s = item_s
        lanes = sizer.costs.lanes if narrow else 1
        admission.seconds_per_item = item_s * slowness / lanes
        admission.batch_s = batch_s * slowness
        admission.beside = not narrow
        admission.threads = lanes if narrow else self._image_threads
        admission.slowness = slowness if narrow else 1.0


def _closed() -> NotReady:
    return NotReady("the service is shutting down", retry_after_s=RETRY_AFTER_S)
