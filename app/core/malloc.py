"""Owns what the C library is told about memory at start.

Knows nothing of who allocates it. glibc hands large blocks back to the kernel when they are freed,
and a network allocates and frees its activations layer by layer: each time the kernel maps and
clears the same pages anew, which can take half of a SegFormer's time.
"""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGEST_BLOCK = 2**30  # bytes; what is larger still comes from, and returns to, the kernel
LARGE_IMAGE = 20_000_000  # pixels: more than nearly all have, and a quarter of a gigabyte to decode
LARGEST = 2**31 - 1  # an int, of bytes free at the top of the heap before it shrinks: never


def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees, for its next activations; whether it does.

    Of glibc only: other C libraries have not these settings. All threads then share one heap, for
    those of threads, other than the first, hold no block of 64 MB. The process stays as large as it
    once was, but for what `release_after` hands back.
    """
    if not is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    said = ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGEST_BLOCK), (M_TRIM_THRESHOLD, LARGEST))
    return all(mallopt(name, value) for name, value in said)


def release_after(pixels: int) -> None:
    """Hand what is free back to the kernel, if that many pixels were just freed and are many.

    A process that once got an enormous image would else stay enormous. All that is free goes, at
    some tenths of a second for the next batch, which is less than such an image takes.
    """
    if pixels >= LARGE_IMAGE and is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


@cache
def is_glibc() -> bool:
    """Whether the C library is the one that this is about."""
    return platform.libc_ver()[0] == "glibc"
