"""Owns what a signal does to a command: to one that has not begun, and to one that can stop.

Knows nothing of the command.
"""

import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from types import FrameType
from typing import NoReturn

START_FAILED, USAGE_ERROR, LOAD_FAILED = 1, 2, 3
RUN_FAILED = 4  # of a service that has served and cannot go on: started anew, it may
SIGNAL_BASE = 128  # and the signal's number, by the shells' convention

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
DRAIN_SIGNAL = signal.SIGUSR1  # from the parent of replicas: a repetition means nothing


def exit_now(status: int) -> NoReturn:
    """End the process with an exit status, whatever its threads are doing.

    An interpreter that is taken down in order ends a thread that comes back from torch in the
    midst of C++ frames, which can abort the process, and waits for those that decode images.
    """
    write_out()
    os._exit(status)


def write_out() -> None:
    """Write what has been logged and printed, so that what is printed next is the last line."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, OSError):  # closed: nobody reads any more
            stream.flush()


INTERRUPTED = SIGNAL_BASE + signal.SIGINT


def leave_when_told() -> None:
    """Until somebody else hears the signals, leave at the first: nothing has begun.

    Without it the process would die of them, or, being the first of a container, not even hear.
    """
    for each in (*STOP_SIGNALS, DRAIN_SIGNAL):
        signal.signal(each, lambda number, frame: exit_now(0))


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come; the second one ends the program where it is.

    Raises:
        KeyboardInterrupt: at the second one, with its number.
    """
    told = Event()
    before = {each: signal.getsignal(each) for each in STOP_SIGNALS}

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


@dataclass(frozen=True)
class ExitReason:
    """Why the replicas could not start, and the exit status that says so."""

    reason: str
    status: int


def usable_cores() -> set[int]:
    """The cores that this process may use; empty where the system cannot tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()  # Linux


def core_count() -> int:
    """The number of cores that this process may use; all of them where the system cannot tell."""
    return len(usable_cores()) or os.cpu_count() or 1


logger = logging.getLogger(__name__)


def allow_files(count: int) -> None:
    """Raise the process's limit to so many open files, as far as the system lets it.

    Shells and service managers give 1024 for the sake of programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < count:
        logger.warning("only %d files may be open at once, %d are wanted", wanted, count)
