"""Owns how many threads there are, and of what kind: one place, so that they do not fight.

Knows nothing of what they do.
"""

import os


def usable_cores() -> int:
    """The cores that this process may use; all of them where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def narrow_lanes(device: str) -> int:
    """Lanes of one torch thread each: one a core, where cores compute."""
    return usable_cores() if device == "cpu" else 0


def wide_threads(device: str) -> int:
    """The torch threads of the lane that has the whole device; 0 where that has no cores."""
    return usable_cores() if device == "cpu" else 0


def image_threads() -> int:
    """Threads for what the lanes leave: large bodies, and images where a GPU computes."""
    return usable_cores()
