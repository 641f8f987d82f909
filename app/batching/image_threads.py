"""The image threads: they decode and encode images, in fair order and within a budget of pixels."""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from threading import Lock

from app.batching.fair_queue import FairQueue
from app.imaging.pixel_budget import WeightedSemaphore

Work = Callable[[], None]


class ImageTask:
    """The work of image threads on one image.

    Args:
        flow: see `FairQueue`.
        deadline: on the clock of the event loop, in seconds.
        seconds: expected duration.
        pixels: number of pixels that are decoded.
        keep: whether the encode needs them.

    Attributes:
        decode: the function that decodes.
        current: the future of the decode, later of the encode.
        holds: whether its pixels are held.
        closed: whether its request has ended.
    """

    decode: Work

    def __init__(
        self, flow: Hashable, deadline: float, seconds: float, pixels: int, *, keep: bool
    ) -> None:
        self.flow = flow
        self.deadline = deadline
        self.seconds = seconds
        self.pixels = pixels
        self.keep = keep
        self.current: Future[None] = Future()
        self.holds = False
        self.closed = False


class ImageThreads:
    """Runs decodes and encodes on a pool of threads.

    A decode waits for its turn, for a thread and for its pixels. An encode goes to the threads at
    once, because its image may hold pixels. A thread that has ended a decode starts the next one
    itself: under overload the event loop would let it wait as long as a decode takes.

    Args:
        pool: the threads; it may have other short work, too.
        count: number of its threads.
        budget: the pixels of all decoded images.
    """

    def __init__(self, pool: Executor, count: int, budget: WeightedSemaphore) -> None:
        self.count = count
        self._pool = pool
        self._budget = budget
        self._lock = Lock()  # for all below, and for the attributes of the tasks
        self._decoding = 0
        self._waiting: FairQueue[ImageTask] = FairQueue()
        self._next: ImageTask | None = None  # waits for its pixels

    async def decode(self, work: Work, task: ImageTask) -> None:
        """Run a decode in its turn; `close` must follow."""
        task.decode = work
        with self._lock:
            self._waiting.add(task)
        self._advance()
        await asyncio.wrap_future(task.current)

    async def encode(self, work: Work, task: ImageTask) -> None:
        """Run an encode."""
        task.current = self._pool.submit(work)
        await asyncio.wrap_future(task.current)

    def close(self, task: ImageTask) -> None:
        """Release the pixels, as soon as no thread works on the image any more."""
        with self._lock:
            task.closed = True
            if task in self._waiting:
                self._waiting.remove(task)
            held, task.holds = task.holds, False
        if held:
            task.current.add_done_callback(lambda _: self._budget.release(task.pixels))

    def _advance(self) -> None:
        """Let the next decode wait for its pixels, if there is a thread for it."""
        with self._lock:
            flow = self._waiting.next()
            if flow is None or self._next is not None or self._decoding == self.count:
                return
            task = self._next = flow.items[0]
            self._waiting.remove(task)
            self._waiting.charge(task, task.seconds)
        self._budget.acquire(task.pixels, self._on_pixels)

    def _on_pixels(self) -> None:
        """Give the next decode to a thread; called by whatever thread has released the pixels."""
        with self._lock:
            task, self._next = self._next, None
            assert task is not None  # noqa: S101  # pixels are acquired for one task at a time
            task.holds = wanted = not task.closed
            self._decoding += wanted
        if wanted:
            self._pool.submit(self._decode, task)
        else:
            self._budget.release(task.pixels)
        self._advance()

    def _decode(self, task: ImageTask) -> None:
        if task.current.set_running_or_notify_cancel():
            try:
                task.decode()
            except BaseException as error:  # noqa: BLE001  # the request gets it
                task.current.set_exception(error)
            else:
                task.current.set_result(None)
        with self._lock:
            self._decoding -= 1
            done = task.holds and not task.keep
            task.holds = task.holds and task.keep
        if done:
            self._budget.release(task.pixels)
        self._advance()
