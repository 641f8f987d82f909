"""Owns what a signal does to a command: to one that has not begun, and to one that can stop.

Knows nothing of the command.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

from app.core.ending import BY_SIGNAL, LEAVE, TOLD, end

INTERRUPTED = BY_SIGNAL + signal.SIGINT


def leave_when_told() -> None:
    """Until somebody else hears the signals, leave at the first: nothing has begun.

    Without it the process would die of them, or, being the first of a container, not even hear.
    """
    for each in (*TOLD, LEAVE):
        signal.signal(each, lambda number, frame: end(0))


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come; the second one ends the program where it is.

    Raises:
        KeyboardInterrupt: at the second one, with its number.
    """
    told = Event()
    before = {each: signal.getsignal(each) for each in TOLD}

    def hear(number: int, frame: FrameType | None) -> None:
        if told.is_set():
            raise KeyboardInterrupt(number)
        told.set()

    try:
        for each in before:
            signal.signal(each, hear)
        yield told.is_set
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
