"""The image threads: they decode and encode images, in fair order and within a budget of pixels."""

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from contextlib import suppress

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

    Attributes:
        turn: is done when the image may be decoded.
        holds: whether its pixels are held.
        work: the work on a thread that was started last.
    """

    def __init__(self, flow: Hashable, deadline: float, seconds: float, pixels: int) -> None:
        self.flow = flow
        self.deadline = deadline
        self.seconds = seconds
        self.pixels = pixels
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.work: Future[None] | None = None
        self.holds = False


class ImageThreads:
    """Runs decodes and encodes on a pool of threads; belongs to one event loop.

    A decode waits for its turn, for a thread and for its pixels. An encode goes to the threads at
    once, because its image holds pixels.

    Args:
        pool: the threads; it may have other short work, too.
        count: number of its threads.
        budget: the pixels of all decoded images.
    """

    def __init__(self, pool: Executor, count: int, budget: WeightedSemaphore) -> None:
        self.count = count
        self._pool = pool
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._decoding = 0
        self._waiting: FairQueue[ImageTask] = FairQueue()
        self._next: ImageTask | None = None  # waits for its pixels

    async def decode(self, work: Work, task: ImageTask) -> None:
        """Run a decode in its turn; `close` must follow."""
        self._waiting.add(task)
        self._advance()
        await task.turn
        work_on_thread = self._submit(work, task)
        work_on_thread.add_done_callback(lambda _: self._call_soon(self._on_decoded))
        await asyncio.wrap_future(work_on_thread)

    async def encode(self, work: Work, task: ImageTask) -> None:
        """Run an encode."""
        await asyncio.wrap_future(self._submit(work, task))

    def close(self, task: ImageTask) -> None:
        """Release the pixels, as soon as no thread works on the image any more."""
        if task.holds and task.work is None:  # cancelled just after it got its turn
            self._on_decoded()
            self._budget.release(task.pixels)
        elif task.holds and task.work is not None:
            task.work.add_done_callback(lambda _: self._budget.release(task.pixels))
        elif task in self._waiting:
            self._waiting.remove(task)

    def _advance(self) -> None:
        """Let the next decode wait for its pixels, if there is a thread for it."""
        if self._next is None and self._decoding < self.count and len(self._waiting):
            flow = self._waiting.next()
            assert flow is not None  # noqa: S101  # there are tasks
            task = self._next = flow.items[0]
            self._waiting.remove(task)
            self._waiting.charge(task, task.seconds)
            self._budget.acquire(task.pixels, self._on_acquired)

    def _on_acquired(self) -> None:
        """Go on in the event loop: another thread may have released the pixels."""
        if threading.get_ident() == self._loop_thread:
            self._on_pixels()
        else:
            self._call_soon(self._on_pixels)

    def _on_pixels(self) -> None:
        task, self._next = self._next, None
        assert task is not None  # noqa: S101  # pixels are acquired for one task at a time
        if task.turn.cancelled():
            self._budget.release(task.pixels)
        else:
            self._decoding += 1
            task.holds = True
            task.turn.set_result(None)
        self._advance()

    def _on_decoded(self) -> None:
        self._decoding -= 1
        self._advance()

    def _submit(self, work: Work, task: ImageTask) -> Future[None]:
        task.work = self._pool.submit(work)
        return task.work

    def _call_soon(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call)
