"""Owns the threads that talk to a device: one lane is one thread, and it alone runs the work.

Knows nothing of what the work is, nor of who waits for it.
"""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch

from app.core.process import core_count

Result = TypeVar("Result")
Finish = Callable[[], None]  # the second half of a piece of work: it waits for the device
Settle = Callable[[Any, BaseException | None], None]
STUCK_S = 30.0  # a lane is never called stuck before this
NICENESS = 5  # of a lane on the cores that the event loop needs too: requests go before batches


class Lane:
    """One thread that runs work in the order of its arrival.

    The thread is a daemon: a process that must leave is not held up by a batch, or a download,
    that nobody waits for any more.

    Args:
        name: the thread's name.
        on_busy: called on the lane with the seconds that a piece of work took.
        threads: cores that torch uses for the work of this lane, set once; 0 leaves it as it is,
            for a lane whose device has no cores.
    """

    def __init__(self, name: str, on_busy: Callable[[float], None], threads: int = 0) -> None:
        self.name = name
        self.busy_since: float | None = None
        self.stuck_after_s = STUCK_S
        self._on_busy = on_busy
        self._threads = threads
        self._work: SimpleQueue[tuple[Callable[[], Finish | None], bool] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=f"lane-{name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def busy_for(self) -> float:
        """Seconds since the present piece of watched work began; 0 when there is none."""
        since = self.busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def stuck(self) -> bool:
        """Whether the present piece of work takes longer than any that it should run."""
        return self.busy_for() > self.stuck_after_s

    def set_expected_batch_s(self, batch_s: float) -> None:
        """Know that a batch may take so many seconds: ten times as many are not stuck."""
        self.stuck_after_s = max(self.stuck_after_s, 10 * batch_s)

    def run(self, work: Callable[[], Result], *, watched: bool = True) -> asyncio.Future[Result]:
        """Send `work` to the lane, now; the future has what it returns, or raises.

        Args:
            work: what to run.
            watched: whether it may be found stuck; a download takes as long as it takes.

        Raises:
            RuntimeError: the work raised what no future can carry; it is the cause.
        """
        future, settle = _future_for()
        self._work.put((partial(_settle_by, work, settle), watched))
        return future

    def launch(self, work: Callable[[], Callable[[], Result]]) -> asyncio.Future[Result]:
        """Send `work`, which starts something and returns how to wait for it: the future has that.

        The lane starts the next piece of work, if there is one, before it waits for this: so the
        device is given a batch while it runs another. Raises as `run` does.
        """
        future, settle = _future_for()

        def job() -> Finish | None:
            try:
                wait = work()
            except BaseException as raised:  # noqa: BLE001  # whoever awaits it decides
                settle(None, raised)
                return None
            return lambda: _settle_by(wait, settle)

        self._work.put((job, True))
        return future

    def close(self) -> None:
        """Let the thread end after the work it has."""
        self._work.put(None)

    def _loop(self) -> None:
        self._pin_threads()
        started: deque[Finish] = deque()
        while True:
            try:
                next_ = self._work.get(block=not started)
            except Empty:
                self._timed(started.popleft(), watched=True)
                continue
            if next_ is None:
                break
            finish = self._timed(*next_)
            if finish is not None:
                started.append(finish)
            while len(started) > 1:
                self._timed(started.popleft(), watched=True)
        for finish in started:
            self._timed(finish, watched=True)

    def _pin_threads(self) -> None:
        if self._threads:
            torch.get_num_threads()  # else the first use would take what another lane set last
            torch.set_num_threads(self._threads)
            if sys.platform == "linux":  # elsewhere a process has a priority, not a thread
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)

    def _timed(self, job: Callable[[], Finish | None], watched: bool) -> Finish | None:
        began = time.monotonic()
        self.busy_since = began if watched else None
        finish = job()
        self.busy_since = None
        self._on_busy(time.monotonic() - began)
        return finish


def _future_for() -> tuple[asyncio.Future[Any], Settle]:
    """A future of the running loop, and what settles it from another thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle_here(result: Any, error: Exception | None) -> None:
        if future.done():  # the caller left
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def settle(result: Any, error: BaseException | None) -> None:
        carried = None if error is None else _carried(error)
        with suppress(RuntimeError):  # the loop has closed: nobody waits
            loop.call_soon_threadsafe(settle_here, result, carried)

    return future, settle


def _settle_by(work: Callable[[], Any], settle: Settle) -> None:
    try:
        result = work()
    except BaseException as raised:  # noqa: BLE001  # whoever awaits it decides
        settle(None, raised)
    else:
        settle(result, None)


def _carried(error: BaseException) -> Exception:
    """The error, as the cause of another where it would end the loop or pass for a cancellation."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carrier = RuntimeError(f"the work ended in {type(error).__name__}")
    carrier.__cause__ = error
    return carrier


def reason_ended(lanes: Iterable[Lane]) -> str | None:
    """Which thread runs no more, or None."""
    ended = (f"the thread of {lane.name} has ended" for lane in lanes if not lane.alive)
    return next(ended, None)


def reason_stuck(lanes: Iterable[Lane]) -> str | None:
    """Which thread is stuck, or None."""
    stuck = (f"the thread of {lane.name} is stuck" for lane in lanes if lane.stuck)
    return next(stuck, None)


def narrow_lanes(device: str) -> int:
    """Lanes of one torch thread each: one a core, where cores compute."""
    return core_count() if device == "cpu" else 0


def wide_threads(device: str) -> int:
    """The torch threads of the lane that has the whole device; 0 where that has no cores."""
    return core_count() if device == "cpu" else 0


def image_threads() -> int:
    """Threads for what the lanes leave: large bodies, and images where a GPU computes."""
    return core_count()
