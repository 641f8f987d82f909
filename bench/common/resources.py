"""Samples of memory, threads and open files of a process tree (Linux only: read from /proc)."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from bench.common.cpu import PROC, processes, stat, tree
from bench.common.machine import memory

THREADS = 17  # index of the number of threads in the fields that `stat` returns


class ResourceSample(NamedTuple):
    """Resources of a process tree at a moment of the monotonic clock.

    Attributes:
        rss: resident memory in MB; shared memory counts once for each process.
    """

    at: float
    rss: float
    threads: int
    files: int


def sample(root: int) -> ResourceSample:
    """Return the present resources of the process tree with this root."""
    rss, threads, files = 0.0, 0, 0
    for pid in tree(root, dict(processes())):
        with suppress(OSError, StopIteration, IndexError):  # the process has ended
            rss += memory("VmRSS", f"/proc/{pid}/status")
            threads += int(stat(pid)[THREADS])
            files += len(os.listdir(PROC / str(pid) / "fd"))
    return ResourceSample(time.monotonic(), rss, threads, files)


@contextmanager
def sampling(root: int, every_s: float) -> Iterator[list[ResourceSample]]:
    """Yield a list to which a thread appends samples until the end of the `with` block."""
    samples = [sample(root)]
    finished = threading.Event()

    def append_samples() -> None:
        while not finished.wait(every_s):
            samples.append(sample(root))

    thread = threading.Thread(target=append_samples)
    thread.start()
    try:
        yield samples
    finally:
        finished.set()
        thread.join()
