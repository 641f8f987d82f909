"""Divides the cores and GPUs of a machine among replicas."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from math import ceil

from app.core.cores import usable_cores


def split_cores(cores: Collection[int], count: int) -> list[set[int]]:
    """The cores of each of `count` replicas: adjacent; shared only if there are too few cores."""
    ordered = sorted(cores)
    if not ordered:
        return [set() for _ in range(count)]
    if count > len(ordered):
        return [{ordered[index % len(ordered)]} for index in range(count)]
    bounds = [index * len(ordered) // count for index in range(count + 1)]
    return [set(ordered[begin:end]) for begin, end in pairwise(bounds)]


def core_share(total: int, count: int, own: Collection[int]) -> int:
    """The number of cores that each of `count` replicas uses.

    Args:
        total: of all replicas; a CPU quota may make it smaller than the number of their cores.
        count: number of replicas.
        own: the cores of the replica; empty if the system cannot tell.
    """
    share = ceil(total / count)
    return min(share, len(own) or share)


def gpu_for(index: int, device: str, gpus: int) -> str:
    """The device of a replica: GPU `index` modulo `gpus`, unless `device` is one GPU or the CPU."""
    return f"cuda:{index % gpus}" if gpus > 1 and device in ("auto", "cuda") else device


def gpu_share(index: int, device: str, gpus: int, count: int) -> float:
    """The part of its GPU that a replica may use: all replicas of a GPU have equal parts.

    Args:
        index: the number of the replica.
        device: the setting.
        gpus: number of GPUs.
        count: number of replicas.
    """
    devices = [gpu_for(each, device, gpus) for each in range(count)]
    return 1 / devices.count(devices[index])


@contextmanager
def cpu_affinity(cores: Collection[int]) -> Iterator[None]:
    """Restrict all processes that are started in the `with` block to these cores."""
    before = usable_cores()
    if before and cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if before and cores:
            os.sched_setaffinity(0, before)
