"""Settings of glibc's malloc, measured in processes of their own."""

import ctypes
import platform
import subprocess
import sys

import pytest

from app.core import malloc

FAULTS = """
import resource, threading, torch
from app.core.malloc import keep_freed_memory

def faults(blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(9 * 2**20)  # 36 MB: above the largest threshold that malloc may choose itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def run():
    faults(16)  # until the heap has its size
    print(faults(4))

{first}
run()
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def page_faults(first):
    """Page faults of the main thread, and of another thread."""
    code = FAULTS.format(first=first)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(line) for line in run.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_large_blocks_are_reused_without_page_faults():
    assert max(page_faults("keep_freed_memory()")) < min(page_faults("")) / 10


def test_another_c_library_is_not_changed(monkeypatch):
    monkeypatch.setattr(malloc, "is_glibc", lambda: False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("called"))
    assert not malloc.keep_freed_memory()
    malloc.release_after(malloc.LARGE_IMAGE)


LARGE = """
import os
from app.core.malloc import LARGE_IMAGE, keep_freed_memory, release_after

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

keep_freed_memory()
before = resident_mb()
blocks = [b"x" * 2**26 for _ in range(4)]
del blocks
kept = resident_mb()
release_after(LARGE_IMAGE - 1)
after_small = resident_mb()
release_after(LARGE_IMAGE)
print(kept - before, after_small - before, resident_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_is_returned_after_a_large_image_and_kept_after_a_small_one():
    run = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    kept, after_small, after_large = map(float, run.stdout.split())
    assert kept > 200
    assert after_small > 200
    assert after_large < 50
