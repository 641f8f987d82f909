"""Owns the threads that talk to a device: one lane is one thread, and it alone runs the work.

Knows nothing of what the work is, nor of who waits for it.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")
STUCK_S = 30.0  # a lane is never called stuck before this


class Lane:
    """One thread that runs work in the order of its arrival.

    `slot` is held by whoever may send the next batch, so that a batch is composed only when the
    thread is free to run it. The thread is a daemon: a process that must leave is not held up by a
    batch, or a download, that nobody waits for any more.

    Args:
        name: the thread's name, also the device's in the metrics.
        on_busy: called on the lane with the seconds that a piece of work took.
    """

    def __init__(self, name: str, on_busy: Callable[[float], None]) -> None:
        self.name = name
        self.slot = asyncio.Lock()
        self.busy_since: float | None = None
        self.stuck_after_s = STUCK_S
        self._on_busy = on_busy
        self._work: SimpleQueue[tuple[Callable[[], None], bool] | None] = SimpleQueue()
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

    def expect(self, batch_s: float) -> None:
        """Know that a batch may take so many seconds: ten times as many are not stuck."""
        self.stuck_after_s = max(self.stuck_after_s, 10 * batch_s)

    async def run(self, work: Callable[[], Result], *, watched: bool = True) -> Result:
        """Run `work` on the lane and return, or raise, what it does.

        Args:
            work: what to run.
            watched: whether it may be found stuck; a download takes as long as it takes.

        Raises:
            RuntimeError: the work raised what no future can carry; it is the cause.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(result: Result | None, error: Exception | None) -> None:
            if future.done():  # the caller left
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # None only where Result is

        def job() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:  # noqa: BLE001  # whoever awaits it decides
                error = _carried(raised)
            with suppress(RuntimeError):  # the loop has closed: nobody waits
                loop.call_soon_threadsafe(settle, result, error)

        self._work.put((job, watched))
        return await future

    def close(self) -> None:
        """Let the thread end after the work it has."""
        self._work.put(None)

    def _loop(self) -> None:
        while (next_ := self._work.get()) is not None:
            job, watched = next_
            began = time.monotonic()
            self.busy_since = began if watched else None
            job()
            self.busy_since = None
            self._on_busy(time.monotonic() - began)


def _carried(error: BaseException) -> Exception:
    """The error, as the cause of another where it would end the loop or pass for a cancellation."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    carrier = RuntimeError(f"the work ended in {type(error).__name__}")
    carrier.__cause__ = error
    return carrier
