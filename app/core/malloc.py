"""Settings of glibc's malloc that keep freed memory in the process.

By default, glibc returns large freed blocks to the kernel. A network allocates and frees its
activations layer by layer, so the kernel would map and clear the same pages again for each image,
which can take half of a SegFormer's time.
"""

import ctypes
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # from malloc.h
MAX_HEAP_BLOCK = 2**30  # bytes; the kernel provides larger blocks and gets them back
LARGE_IMAGE = 20_000_000  # pixels; rare, and takes about 250 MB to decode
NEVER_TRIM = 2**31 - 1  # bytes of free heap before it shrinks: the largest C int


def keep_freed_memory() -> bool:
    """Keep freed memory in the process for the next activations.

    This needs glibc; other C libraries do not have these settings. All threads then share one heap,
    because the heaps that glibc makes for other threads cannot hold blocks of 64 MB. The process
    keeps its largest size, except for what `release` returns.

    Returns:
        Whether the settings took effect.
    """
    if not is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    options = (
        (M_ARENA_MAX, 1),
        (M_MMAP_THRESHOLD, MAX_HEAP_BLOCK),
        (M_TRIM_THRESHOLD, NEVER_TRIM),
    )
    return all(mallopt(name, value) for name, value in options)


def release_after(pixels: int) -> None:
    """Return free memory to the kernel if an image with many pixels was just freed.

    Without this, one very large image would keep the process large. The next batch takes a few
    tenths of a second longer, which is less than the large image took.
    """
    if pixels >= LARGE_IMAGE:
        release()


def release() -> None:
    """Return free memory to the kernel; this takes some milliseconds for each 100 MB."""
    if is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


@cache
def is_glibc() -> bool:
    """Whether the C library is glibc."""
    return platform.libc_ver()[0] == "glibc"
