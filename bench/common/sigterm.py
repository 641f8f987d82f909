"""Clean exit on SIGTERM, so that a benchmark stops the processes that it has started."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the main thread until the end of the `with` block.

    Python ends at once on SIGTERM by default: no `finally` block runs, and servers that the
    benchmark has stopped with SIGSTOP stay in memory forever. A second SIGTERM is ignored, so that
    it cannot interrupt the cleanup.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
