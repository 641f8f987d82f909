"""Owns what the C library is told about memory at start.

Knows nothing of who allocates it. glibc hands large blocks back to the kernel when they are freed,
and a network allocates and frees its activations layer by layer: each time the kernel maps and
clears the same pages anew, which can take half of a SegFormer's time.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGEST_BLOCK = 2**30  # bytes; what is larger still comes from, and returns to, the kernel
LARGEST = 2**31 - 1  # an int, of bytes free at the top of the heap before it shrinks: never


def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees, for its next activations; whether it does.

    Of glibc only: other C libraries have not these settings. All threads then share one heap, for
    those of threads, other than the first, hold no block of 64 MB. The process stays as large as it
    once was.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    said = ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGEST_BLOCK), (M_TRIM_THRESHOLD, LARGEST))
    return all(mallopt(name, value) for name, value in said)
