"""Owns what a signal does to a command that is able to stop by itself.

Knows nothing of the command.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

INTERRUPTED = 130  # the exit status of a command that was interrupted, by the shells' convention


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come; the second one ends the program where it is."""
    told = Event()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}

    def hear(number: int, frame: FrameType | None) -> None:
        if told.is_set():
            raise KeyboardInterrupt
        told.set()

    try:
        for each in before:
            signal.signal(each, hear)
        yield told.is_set
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
