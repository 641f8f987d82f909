"""Owns how replicas divide a machine: which cores, and which GPU, each of them gets.

Knows nothing of processes but how one is born to its cores.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise

from app.core.process import usable_cores


def split_cores(cores: Collection[int], count: int) -> list[set[int]]:
    """The cores of each of `count` replicas: neighbours, and of nobody else while they suffice."""
    ordered = sorted(cores)
    if not ordered:
        return [set() for _ in range(count)]
    if count > len(ordered):
        return [{ordered[index % len(ordered)]} for index in range(count)]
    bounds = [index * len(ordered) // count for index in range(count + 1)]
    return [set(ordered[begin:end]) for begin, end in pairwise(bounds)]


def gpu_for(index: int, device: str, gpus: int) -> str:
    """The device of a replica: a GPU each, in turns, where the setting leaves it open."""
    return f"cuda:{index % gpus}" if gpus > 1 and device in ("auto", "cuda") else device


@contextmanager
def cpu_affinity(cores: Collection[int]) -> Iterator[None]:
    """Let what is started meanwhile have these cores only: it counts no others from the first."""
    before = usable_cores()
    if before and cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if before and cores:
            os.sched_setaffinity(0, before)
