"""Owns the async queue: who may wait, who shares a batch, and that everyone gets their own answer.

Knows nothing of images, networks or HTTP; it is given a function that runs a batch.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from app.errors import DeadlineExceeded, Internal, NotReady, Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")

SMOOTHING = 0.2  # of the measured seconds per item: the last ten batches decide


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    """One item in the queue and the future that its caller awaits."""

    item: Item
    key: Hashable
    deadline: float
    since: float
    answer: asyncio.Future[Result]
    ticket: "Ticket[Item, Result]"


class Ticket(Generic[Item, Result]):
    """A place in the queue, taken before the image is decoded and given back on leaving the `with`.

    After `run`, `queue_seconds` and `batch_size` tell how the item travelled.
    """

    def __init__(self, batcher: "Batcher[Item, Result]", deadline: float) -> None:
        self.deadline = deadline
        self.queue_seconds = 0.0
        self.batch_size = 0
        self._batcher = batcher
        self._holds_place = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()

    async def run(self, item: Item, key: Hashable) -> Result:
        """Wait for a batch of items with an equal key, and return this item's own result.

        Raises:
            DeadlineExceeded: the deadline passed before a batch took the item.
            Internal: the batch failed; the cause is chained.
            NotReady: the batcher was closed.
        """
        return await self._batcher._submit(self, item, key)

    def give_back(self) -> None:
        """Free the place; harmless when it is free already."""
        if self._holds_place:
            self._holds_place = False
            self._batcher._places_taken -= 1


class Batcher(Generic[Item, Result]):
    """The queue of one model.

    A batch is composed as late as possible: only when `slot`, the right to use the device, is held.
    Nothing waits for company while the device is idle, unless `max_queue_delay_s` says so.

    Args:
        run_batch: runs a batch; one result per item, in order.
        slot: held while a batch is composed and run; batchers of one device share it.
        max_batch_size: items in a batch at most; the warm-up may lower it.
        max_queue_size: places at most, the items that are still being decoded included.
        max_queue_delay_s: how long the oldest item waits for company, in seconds.
        on_batch: called with the size and seconds of each batch that ran.
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        slot: asyncio.Lock,
        max_batch_size: int,
        max_queue_size: int,
        max_queue_delay_s: float = 0.0,
        on_batch: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self.max_batch_size = max_batch_size
        self.max_queue_size = max_queue_size
        self.max_queue_delay_s = max_queue_delay_s
        self.seconds_per_item = 0.0
        self._run_batch = run_batch
        self._slot = slot
        self._on_batch = on_batch
        self._places_taken = 0
        self._queue: list[_Waiting[Item, Result]] = []
        self._arrived = asyncio.Event()
        self._running: set[asyncio.Future[Result]] = set()
        self._dispatcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._dispatcher = asyncio.create_task(self._dispatch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._dispatcher
        for answer in [*(waiting.answer for waiting in self._queue), *self._running]:
            _fail(answer, NotReady("the service is shutting down"))
        self._queue.clear()

    @property
    def alive(self) -> bool:
        """Whether the task that composes batches still runs."""
        return self._dispatcher is not None and not self._dispatcher.done()

    @property
    def depth(self) -> int:
        """Places taken: items admitted and not yet in a batch."""
        return self._places_taken

    def oldest_age(self) -> float:
        """Seconds that the earliest item in the queue has waited."""
        now = asyncio.get_running_loop().time()
        return max((now - waiting.since for waiting in self._queue), default=0.0)

    def predicted_wait(self) -> float:
        """Seconds that an item admitted now would wait, by the measured drain rate."""
        return self.depth * self.seconds_per_item

    def reserve(self, deadline: float) -> Ticket[Item, Result]:
        """Take a place in the queue.

        Args:
            deadline: on the clock of the running loop, in seconds.

        Raises:
            Overloaded: the queue is full, or the predicted wait passes the deadline.
        """
        wait = self.predicted_wait()
        if self.depth >= self.max_queue_size:
            raise self._overloaded("the queue is full", wait)
        if asyncio.get_running_loop().time() + wait > deadline:
            raise self._overloaded("the predicted wait passes the deadline", wait)
        self._places_taken += 1
        return Ticket(self, deadline)

    def _overloaded(self, detail: str, wait: float) -> Overloaded:
        jittered = max(wait, 0.05) * random.uniform(1.0, 1.5)  # noqa: S311  # only spreads retries
        return Overloaded(detail, retry_after_s=jittered)

    async def _submit(self, ticket: Ticket[Item, Result], item: Item, key: Hashable) -> Result:
        if not self.alive:
            raise NotReady("the service is shutting down")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        waiting = _Waiting(item, key, ticket.deadline, loop.time(), answer, ticket)
        self._queue.append(waiting)
        self._arrived.set()
        try:
            return await answer
        finally:
            if answer.cancelled() and waiting in self._queue:
                self._queue.remove(waiting)

    async def _dispatch(self) -> None:
        while True:
            await self._arrived.wait()
            await self._wait_for_company()
            began = asyncio.get_running_loop().time()
            async with self._slot:
                if batch := self._compose():
                    await self._settle(batch, began)
            if self._queue:
                self._arrived.set()
            else:
                self._arrived.clear()

    async def _wait_for_company(self) -> None:
        while 0 < len(self._queue) < self.max_batch_size:
            left = self.max_queue_delay_s - self.oldest_age()
            if left <= 0:
                return
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._arrived.wait()

    def _compose(self) -> list[_Waiting[Item, Result]]:
        """Take the items of the next batch: the most urgent one, and those with an equal key."""
        now = asyncio.get_running_loop().time()
        for waiting in self._queue:
            if waiting.deadline <= now:
                _fail(waiting.answer, DeadlineExceeded("the deadline passed in the queue"))
        live = [waiting for waiting in self._queue if not waiting.answer.done()]
        live.sort(key=lambda waiting: waiting.deadline)
        batch = [waiting for waiting in live if waiting.key == live[0].key][: self.max_batch_size]
        chosen = set(batch)
        self._queue = [waiting for waiting in live if waiting not in chosen]
        for waiting in batch:
            waiting.ticket.give_back()
            waiting.ticket.queue_seconds = now - waiting.since
            waiting.ticket.batch_size = len(batch)
        return batch

    async def _settle(self, batch: list[_Waiting[Item, Result]], began: float) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        answers = [waiting.answer for waiting in batch]
        self._running.update(answers)
        try:
            results = await self._run_batch([waiting.item for waiting in batch])
            pairs = list(zip(answers, results, strict=True))
        except Exception as error:  # noqa: BLE001  # it belongs to the callers, not to the queue
            for answer in answers:
                _fail(answer, _internal(error))
        else:
            for answer, result in pairs:
                if not answer.done():
                    answer.set_result(result)
            self._on_batch(len(batch), loop.time() - started)
            if len(batch) == self.max_batch_size or self._queue:  # a lone item tells of no crowd
                self._measure((loop.time() - began) / len(batch))
        self._running.difference_update(answers)

    def _measure(self, seconds: float) -> None:
        before = self.seconds_per_item or seconds
        self.seconds_per_item = before + SMOOTHING * (seconds - before)


def _fail(answer: asyncio.Future[Result], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _internal(cause: Exception) -> Internal:
    error = Internal("the batch failed")
    error.__cause__ = cause
    return error
