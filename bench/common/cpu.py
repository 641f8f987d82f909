"""CPU time of process trees and of the whole machine (Linux only: read from /proc)."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.common.machine import memory

PROC = Path("/proc")
MAX_FOREIGN_SHARE = 0.15  # of the machine's CPU time, used by processes that are not measured
# Fields of the first line of /proc/stat that do not count as used: idle and iowait; irq and
# softirq, which belong to no process; guest times, which are part of user time already.
UNUSED_FIELDS = (3, 4, 5, 6, 8, 9)


class Usage(NamedTuple):
    """CPU seconds used up to a moment, by the whole machine and by process trees.

    Time that the host took from this virtual machine (steal) counts as used by other processes.
    """

    at: float
    machine: float
    trees: Mapping[str, float]


class UsageDelta(NamedTuple):
    """CPU use between two moments.

    Attributes:
        seconds: wall-clock time between the moments.
        cpu: CPU seconds by process tree.
        foreign: fraction of the machine's CPU time used by processes outside of these trees.
    """

    seconds: float
    cpu: Mapping[str, float]
    foreign: float

    @property
    def disturbed(self) -> bool:
        """Whether other processes used too much CPU time for a valid measurement."""
        return self.foreign > MAX_FOREIGN_SHARE


def usage(roots: Mapping[str, int]) -> Usage:
    """Return the CPU time used until now by the machine and by the process trees of these roots."""
    parents = dict(processes())
    trees = {name: sum(map(cpu_seconds, tree(root, parents))) for name, root in roots.items()}
    fields = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = sum(int(count) for place, count in enumerate(fields) if place not in UNUSED_FIELDS)
    return Usage(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), trees)


def usage_between(before: Usage, after: Usage) -> UsageDelta:
    """Return the CPU use between two readings."""
    seconds = after.at - before.at
    cpu = {name: used - before.trees[name] for name, used in after.trees.items()}
    foreign = after.machine - before.machine - sum(cpu.values())
    return UsageDelta(seconds, cpu, max(foreign, 0.0) / seconds / (os.cpu_count() or 1))


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command name: state, parent, ... (proc(5))."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def processes() -> Iterator[tuple[int, int]]:
    """Yield the id of each process and of its parent."""
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError):  # the process has ended
                yield int(entry.name), int(stat(int(entry.name))[1])


def tree(root: int, parents: Mapping[int, int]) -> list[int]:
    """Return the ids of a process and of all its descendants."""
    members = [root]
    for member in members:
        members += [pid for pid, parent in parents.items() if parent == member]
    return members


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended; 0 if it has ended."""
    with suppress(OSError, IndexError):
        return sum(map(int, stat(pid)[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def peak_memory(root: int) -> float:
    """Return the sum of the peak resident memory of each process of a tree, in MB."""
    total = 0.0
    for pid in tree(root, dict(processes())):
        with suppress(OSError, StopIteration):
            total += memory("VmHWM", f"/proc/{pid}/status")
    return total
