"""Owns what a process tree holds over time: memory, threads and open files, a sample now and then.

Knows nothing of what the processes do. Linux only: it reads /proc.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from bench.common.cpu import PROC, processes, stat, tree
from bench.common.machine import memory

THREADS = 17  # the field of /proc/PID/stat, counted from the state


class Held(NamedTuple):
    """What a process tree held at a moment of the monotonic clock.

    Attributes:
        rss: MB; what processes share counts once for each.
    """

    at: float
    rss: float
    threads: int
    files: int


def held(root: int) -> Held:
    """What the tree with this root holds now."""
    rss, threads, files = 0.0, 0, 0
    for pid in tree(root, dict(processes())):
        with suppress(OSError, StopIteration, IndexError):  # it has ended
            rss += memory("VmRSS", f"/proc/{pid}/status")
            threads += int(stat(pid)[THREADS])
            files += len(os.listdir(PROC / str(pid) / "fd"))
    return Held(time.monotonic(), rss, threads, files)


@contextmanager
def watched(root: int, every_s: float) -> Iterator[list[Held]]:
    """The samples of a process tree, which become more as long as the `with` lasts."""
    samples = [held(root)]
    over = threading.Event()

    def look() -> None:
        while not over.wait(every_s):
            samples.append(held(root))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
