"""The image threads: they decode and encode images, in fair order and within a budget of pixels."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from math import inf
from threading import Lock

from app.batching.fair_queue import FairQueue, Flow, FlowKey

Work = Callable[[], None]

PASS_S = 1.0  # how long decodes that fit into the budget may pass one that does not


class ImageTask:
    """The work of image threads on one image: its decode, and later its encode.

    Args:
        flow: see `FairQueue`.
        deadline: on the clock of the event loop, in seconds.
        seconds: expected duration.
        pixels: number of pixels that are decoded.
        keep: whether the encode needs them.

    Attributes:
        work: the decode or the encode.
        done: the future of the decode, later of the encode.
        needs: the pixels that the work needs besides those that are held.
        held: the pixels that are held.
    """

    work: Work

    def __init__(
        self, flow: FlowKey, deadline: float, seconds: float, pixels: int, *, keep: bool
    ) -> None:
        self.flow = flow
        self.deadline = deadline
        self.seconds = seconds
        self.keep = keep
        self.done: Future[None] = Future()
        self.needs = pixels
        self.held = 0

    def prepare_encode(self, work: Work) -> None:
        """Make the encode the next work, which is the first of its flow: it frees pixels."""
        self.work, self.done = work, Future()
        self.deadline, self.seconds, self.needs = -inf, 0.0, 0

    def run(self) -> None:
        """Run the work, unless its request has ended."""
        if not self.done.set_running_or_notify_cancel():
            return
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001  # the request gets it
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


class ImageThreads:
    """Runs decodes and encodes on a pool of threads.

    Each waits for its turn and for a thread, and a decode also for its pixels. A thread that has
    ended one starts the next one itself: under overload the event loop would let it wait as long as
    a decode takes. While a decode does not fit into the budget, others may pass it for a second;
    after that only encodes may, because they free pixels.

    Args:
        pool: the threads; it may have other short work, too.
        count: number of its threads.
        max_pixels: of all decoded images together; a larger image is decoded alone.

    Attributes:
        held: the pixels of all decoded images.
        running: number of decodes and encodes that run.
    """

    def __init__(self, pool: Executor, count: int, max_pixels: int) -> None:
        self.count = count
        self.held = self.running = 0
        self._pool = pool
        self._max_pixels = max_pixels
        self._lock = Lock()  # for all below, and for the attributes of the tasks
        self._waiting: FairQueue[ImageTask] = FairQueue()
        self._blocked: ImageTask | None = None  # a decode that does not fit
        self._blocked_since = 0.0

    async def decode(self, work: Work, task: ImageTask) -> None:
        """Run a decode in its turn; `close` must follow."""
        task.work = work
        task.needs = min(task.needs, self._max_pixels)
        await self._run(task)

    async def encode(self, work: Work, task: ImageTask) -> None:
        """Run an encode in its turn."""
        task.prepare_encode(work)
        await self._run(task)

    def drop(self, task: ImageTask, error: Exception) -> None:
        """Raise an error for a task that still waits for its turn."""
        if self._remove(task):
            task.done.set_exception(error)

    def close(self, task: ImageTask) -> None:
        """Release the pixels, as soon as no thread works on the image any more."""
        self._remove(task)
        if task.held:
            task.done.add_done_callback(lambda _: self._release(task))

    async def _run(self, task: ImageTask) -> None:
        with self._lock:
            self._waiting.add(task)
        self._advance()
        await asyncio.wrap_future(task.done)

    def _remove(self, task: ImageTask) -> bool:
        """Remove a task that waits for its turn; False if it does not."""
        with self._lock:
            waits = task in self._waiting
            if waits:
                self._waiting.remove(task)
                self._unblock(task)
        self._advance()
        return waits

    def _advance(self) -> None:
        """Give work to the threads that are free."""
        while (task := self._next()) is not None:
            with suppress(RuntimeError):  # the pool is shut down, after the end of all requests
                self._pool.submit(self._work, task)

    def _next(self) -> ImageTask | None:
        """Take the task that is next, if there is a thread for it; it holds its pixels then."""
        with self._lock:
            skipped: list[Flow[ImageTask]] = []
            while self.running < self.count and (flow := self._waiting.next(skipped)) is not None:
                task = flow.items[0]
                if self._may_start(task):
                    self._waiting.remove(task)
                    self._waiting.charge(task, task.seconds)
                    self._unblock(task)
                    self.running += 1
                    task.held += task.needs
                    self.held += task.needs
                    return task
                skipped.append(flow)
            return None

    def _may_start(self, task: ImageTask) -> bool:
        if not task.needs:
            return True
        if self.held + task.needs <= self._max_pixels:
            waited = time.monotonic() - self._blocked_since
            return self._blocked in (None, task) or waited < PASS_S
        if self._blocked is None:
            self._blocked, self._blocked_since = task, time.monotonic()
        return False

    def _unblock(self, task: ImageTask) -> None:
        if task is self._blocked:
            self._blocked = None

    def _work(self, task: ImageTask) -> None:
        task.run()
        with self._lock:
            self.running -= 1
        if not task.keep:
            self._release(task)
        self._advance()

    def _release(self, task: ImageTask) -> None:
        with self._lock:
            self.held -= task.held
            task.held = 0
        self._advance()
