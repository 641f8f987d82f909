"""Owns how a process ends: upon which signals, with which statuses, and that it waits for nobody.

Knows nothing of why it ends.
"""

import logging
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

START_FAILED, USAGE_ERROR, LOAD_FAILED = 1, 2, 3
RUN_FAILED = 4  # of a service that has served and cannot go on: started anew, it may
BY_SIGNAL = 128  # and the signal's number, by the shells' convention

TOLD = (signal.SIGTERM, signal.SIGINT)
LEAVE = signal.SIGUSR1  # from the parent of replicas: a repetition means nothing


def end(status: int) -> NoReturn:
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
