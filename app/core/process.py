"""The process: exit statuses, stop signals, immediate exit, open-file limit.

It imports only the standard library, because `app.__main__` needs it before torch is imported.
"""

import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import NoReturn

START_FAILED, USAGE_ERROR, LOAD_FAILED = 1, 2, 3
RUN_FAILED = 4  # the service has served and cannot continue; a restart may help
SIGNAL_BASE = 128  # the exit status is this plus the number of the signal, as in shells

DRAIN_SIGNAL = signal.SIGUSR1  # from the parent to its replicas
# a second one of these changes nothing: a terminal that closes and its shell both send SIGHUP
REPEATED_SIGNALS = (DRAIN_SIGNAL, signal.SIGHUP)
OUTPUT_S = 1.5  # to write what is left at the end; longer than the log's own limit
INTERRUPTED = SIGNAL_BASE + signal.SIGINT

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExitReason:
    """Why the service could not start or continue, and the exit status for it."""

    reason: str
    status: int


def age_s() -> float | None:
    """Seconds since this process started; None if the system does not say (Linux does)."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    started_at = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # after the boot: proc(5), starttime
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_at


def open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file or socket would get the number of the stream, and with it everything
    that a library prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that stop the service; SIGHUP only if the process was not started by nohup."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *(() if ignores_hangup else (signal.SIGHUP,)))


def exit_now(status: int, last_line: str = "") -> NoReturn:
    """End the process with an exit status without waiting for its threads.

    A normal interpreter exit would wait for the image threads, and a thread that returns from torch
    during the exit can abort the process.

    Args:
        status: the exit status.
        last_line: text for standard error, after all log lines.
    """
    flush_output(last_line)
    os._exit(status)


def flush_output(last_line: str = "") -> bool:
    """Write all log lines and printed text, then a last line, within OUTPUT_S.

    A pipe that nobody reads would block for ever. Without memory for another thread, there is no
    time limit.

    Returns:
        Whether everything is written. If not, the next use of the streams may block.
    """
    thread = Thread(target=_write_output, args=(last_line,), name="output", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no memory for it
        _write_output(last_line)
        return True
    thread.join(OUTPUT_S)
    return not thread.is_alive()


def _write_output(last_line: str) -> None:
    for handler in logging.getLogger().handlers:
        with suppress(ValueError, OSError):  # the terminal is closed
            handler.flush()
    if last_line:
        with suppress(ValueError, OSError):
            sys.stderr.write(f"{last_line}\n")
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, OSError):  # the stream is closed
            stream.flush()


def exit_on_signals() -> None:
    """Exit with status 0 on the first signal, until the server installs its own handlers.

    By default, a signal would end the process with an error status, or have no effect on the first
    process of a container.
    """
    for each in (*stop_signals(), DRAIN_SIGNAL):
        signal.signal(each, lambda number, frame: exit_now(0))


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """End with one line if the user interrupts the block, unless interrupts are handled already.

    An import that is interrupted would print a long traceback, or abort the process.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(
        signal.SIGINT, lambda number, frame: exit_now(INTERRUPTED, "patchserve: interrupted")
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def catch_stop_signals() -> Iterator[Callable[[], bool]]:
    """Handle the stop signals in the block; yield a function that tells if one has arrived.

    Raises:
        KeyboardInterrupt: at the second signal, with the signal's number.
    """
    stop_requested = Event()
    previous = {each: signal.getsignal(each) for each in stop_signals()}

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop_requested.is_set() and number not in REPEATED_SIGNALS:
            raise KeyboardInterrupt(number)
        stop_requested.set()

    try:
        for each in previous:
            signal.signal(each, on_signal)
        yield stop_requested.is_set
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


def raise_open_file_limit(count: int) -> int:
    """Raise the limit of open files of this process to `count`, or as far as the system allows.

    Shells and service managers set 1024 because of programs that use select(2).

    Returns:
        The number of files that may be open now, at most `count`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return count
    limit = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit < count:
        logger.warning("only %d files may be open at once, %d are needed", limit, count)
    return limit
