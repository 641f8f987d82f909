"""Owns who used the processor: process trees, the machine, and what neither of them explains.

Knows nothing of what the processes do. Linux only: it reads /proc.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.common.machine import memory

PROC = Path("/proc")
VOID = 0.15  # of the machine: with more than that in others' hands a measurement says nothing
IDLE = (3, 4, 5, 6, 8, 9)  # idle, iowait; irq, softirq: nobody's; guest is in user already


class Usage(NamedTuple):
    """Seconds of processor time used until a moment: by all that runs, and by trees of processes.

    What the host took away from this virtual machine counts as used: it was not ours.
    """

    at: float
    machine: float
    trees: Mapping[str, float]


class Share(NamedTuple):
    """What happened between two moments."""

    seconds: float
    cpu: Mapping[str, float]  # seconds by tree
    foreign: float  # the share of the machine that none of the trees had

    @property
    def void(self) -> bool:
        """Whether too much of the machine was in others' hands."""
        return self.foreign > VOID


def usage(roots: Mapping[str, int]) -> Usage:
    """What was used until now, by the process trees with these roots."""
    parents = dict(processes())
    trees = {name: sum(map(cpu_seconds, tree(root, parents))) for name, root in roots.items()}
    fields = (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = sum(int(count) for place, count in enumerate(fields) if place not in IDLE)
    return Usage(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), trees)


def between(before: Usage, after: Usage) -> Share:
    """What happened from one moment to the other."""
    seconds = after.at - before.at
    cpu = {name: used - before.trees[name] for name, used in after.trees.items()}
    foreign = after.machine - before.machine - sum(cpu.values())
    return Share(seconds, cpu, max(foreign, 0.0) / seconds / (os.cpu_count() or 1))


def stat(pid: int) -> list[str]:
    """What /proc/PID/stat says behind the command's name: state, parent, ... (man 5 proc)."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def processes() -> Iterator[tuple[int, int]]:
    """Each process and its parent."""
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError):  # it has ended
                yield int(entry.name), int(stat(int(entry.name))[1])


def tree(root: int, parents: Mapping[int, int]) -> list[int]:
    """The process and all that descend from it."""
    found = [root]
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of its children that have ended."""
    with suppress(OSError, IndexError):
        return sum(map(int, stat(pid)[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def peak_memory(root: int) -> float:
    """The most memory that each process of a tree has held, summed, in MB."""
    total = 0.0
    for pid in tree(root, dict(processes())):
        with suppress(OSError, StopIteration):
            total += memory("VmHWM", f"/proc/{pid}/status")
    return total
