"""Lanes, the threads that run work on a device, and how many there are."""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")
Finish = Callable[[], None]  # the second half of launched work: waits for the device
SetResult = Callable[[Any, BaseException | None], None]
STUCK_S = 30.0  # a lane counts as stuck after this time at the earliest
NICENESS = 5  # added for the lanes of a CPU, so that the event loop gets the cores first


class Lane:
    """One thread that runs work in order of arrival.

    The thread is a daemon, so that a batch or a download does not delay the exit of the process.

    Args:
        name: of the lane.
        on_busy: called on the lane's thread with the seconds of each piece of work, or of `used`.
        threads: torch threads for the work of this lane; 0 for a lane of a GPU, which keeps the
            default.
        share: share of the device that the lane has; it scales the seconds of `on_busy`.
        timed: whether the lane measures its work; False if the work itself reports the seconds to
            `used`, because the thread also copies for the device and waits for it.

    Attributes:
        busy_since: when the current step of watched work started, on the monotonic clock; None
            if there is none.
        stuck_after_s: the lane counts as stuck if a step takes longer, in seconds.
    """

    def __init__(
        self,
        name: str,
        on_busy: Callable[[float], None],
        threads: int = 0,
        share: float = 1.0,
        *,
        timed: bool = True,
    ) -> None:
        self.name = name
        self.busy_since: float | None = None
        self.stuck_after_s = STUCK_S
        self._on_busy = on_busy
        self._threads = threads
        self._share = share
        self._timed = timed
        self._work: SimpleQueue[tuple[Callable[[], Finish | None], bool] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=f"lane-{name}", daemon=True)
        self._starting = threading.Lock()
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the thread is running, or would start with the first work."""
        unused = self._thread.ident is None and not self._closed
        return unused or self._thread.is_alive()

    def busy_for(self) -> float:
        """Seconds since the current step of watched work started; 0 if there is none."""
        since = self.busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def stuck(self) -> bool:
        """Whether the current step of watched work takes too long."""
        return self.busy_for() > self.stuck_after_s

    def beat(self) -> None:
        """Report progress, on the lane's thread: each step of the work may take `stuck_after_s`."""
        if self.busy_since is not None:
            self.busy_since = time.monotonic()

    def used(self, device_s: float) -> None:
        """Report seconds on the device, on the lane's thread; a lane with `timed` ignores them."""
        if not self._timed:
            self._on_busy(self._share * device_s)

    def allow_batch_s(self, batch_s: float) -> None:
        """Raise `stuck_after_s` to ten times the time of a batch, if that is longer."""
        self.stuck_after_s = max(self.stuck_after_s, 10 * batch_s)

    def run(self, work: Callable[[], Result], *, watched: bool = True) -> asyncio.Future[Result]:
        """Send work to the lane, and return a future of its result.

        Args:
            work: runs on the lane's thread.
            watched: whether the lane may count as stuck; False for downloads, which may take long.

        Raises:
            RuntimeError: from the future, if there is no memory for the thread, or if the work
                raised an exception that a future cannot hold; this exception is the cause.
        """
        future, set_result = _future_for()
        self._send(partial(_run_for, work, set_result), set_result, watched=watched)
        return future

    def launch(self, work: Callable[[], Callable[[], Result]]) -> asyncio.Future[Result]:
        """Send work that starts something and returns a function that waits for its result.

        The lane starts the next work, if there is any, before it waits for this one: a GPU gets a
        batch while it runs another one. The errors are those of `run`.
        """
        future, set_result = _future_for()
        self._send(partial(_start_for, work, set_result), set_result, watched=True)
        return future

    def call(self, work: Callable[[], Callable[[], Result]]) -> Result:
        """Do the same as `launch` from another thread than the event loop's; wait for the result.

        While one thread waits for its result, the lane starts the work of another thread.
        """
        done: Future[Result] = Future()

        def set_result(result: Any, error: BaseException | None) -> None:
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        self._send(partial(_start_for, work, set_result), set_result, watched=False)
        return done.result()

    def _send(
        self, work: Callable[[], Finish | None], set_result: SetResult, *, watched: bool
    ) -> None:
        """Send work; the first work starts the thread, for which there may be no memory."""
        try:
            with self._starting:
                if self._thread.ident is None:
                    self._thread.start()
        except RuntimeError as error:
            set_result(None, error)
        else:
            self._work.put((work, watched))

    def close(self) -> None:
        """Let the thread end after all work that was sent before."""
        self._closed = True
        self._work.put(None)

    def _loop(self) -> None:
        self._pin_threads()
        started: deque[Finish] = deque()
        while True:
            try:
                work = self._work.get(block=not started)
            except Empty:
                self._step(started.popleft(), watched=True)
                continue
            if work is None:
                break
            finish = self._step(*work)
            if finish is not None:
                started.append(finish)
            while len(started) > 1:
                self._step(started.popleft(), watched=True)
        for finish in started:
            self._step(finish, watched=True)

    def _pin_threads(self) -> None:
        if self._threads:
            set_torch_threads(self._threads)
            if sys.platform == "linux":  # other systems have priorities of processes only
                lower_priority()

    def _step(self, work: Callable[[], Finish | None], watched: bool) -> Finish | None:
        start = time.monotonic()
        self.busy_since = start if watched else None
        finish = work()
        self.busy_since = None
        if self._timed:
            self._on_busy(self._share * (time.monotonic() - start))
        return finish


def set_torch_threads(count: int) -> None:
    """Set how many torch threads work for the calling thread."""
    torch.get_num_threads()  # without this, torch would take another thread's number
    torch.set_num_threads(count)


def lower_priority() -> None:
    """Let the event loop get the cores before this thread; without effect where this is refused."""
    with suppress(OSError):
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), own + NICENESS)


def _future_for() -> tuple[asyncio.Future[Any], SetResult]:
    """A future of the running loop, and a function for other threads that sets its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def set_in_loop(result: Any, error: Exception | None) -> None:
        if future.done():  # cancelled
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def set_result(result: Any, error: BaseException | None) -> None:
        storable = None if error is None else _storable(error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(set_in_loop, result, storable)

    return future, set_result


def _start_for(work: Callable[[], Callable[[], Any]], set_result: SetResult) -> Finish | None:
    """Start work; return the function that waits for its result, or None if it has failed."""
    try:
        wait = work()
    except BaseException as error:  # noqa: BLE001  # the future gets it
        set_result(None, error)
        return None
    return partial(_run_for, wait, set_result)


def _run_for(work: Callable[[], Any], set_result: SetResult) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  # the future gets it
        set_result(None, error)
    else:
        set_result(result, None)


def _storable(error: BaseException) -> Exception:
    """The error for a future; wrapped if a future refuses it, or if it would end the loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapper = RuntimeError(f"the work ended in {type(error).__name__}")
    wrapper.__cause__ = error
    return wrapper


def lane_ended_reason(lanes: Iterable[Lane]) -> str | None:
    """Which thread has ended, or None."""
    ended = (f"the thread of {lane.name} has ended" for lane in lanes if not lane.alive)
    return next(ended, None)


def lane_stuck_reason(lanes: Iterable[Lane]) -> str | None:
    """Which thread is stuck, or None."""
    stuck = (f"the thread of {lane.name} is stuck" for lane in lanes if lane.stuck)
    return next(stuck, None)


def narrow_lanes(device: str, cores: int) -> int:
    """Number of narrow lanes: one for each core of a CPU, none for a GPU."""
    return cores if device == "cpu" else 0


def wide_threads(device: str, cores: int) -> int:
    """Torch threads of the wide lane: all cores of a CPU, 0 for a GPU."""
    return cores if device == "cpu" else 0


def image_threads(device: str, cores: int) -> int:
    """Number of image threads: they parse large bodies; without narrow lanes, they also decode.

    With a GPU, one core is left to the event loop and one to the lane.
    """
    return cores if device == "cpu" else max(1, cores - 2)
