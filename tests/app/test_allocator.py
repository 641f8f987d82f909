import ctypes
import platform
import subprocess
import sys

import pytest

from app import allocator

FAULTS = """
import resource, threading, torch
from app.allocator import keep_freed_memory

def faults(blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(2**24)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def run():
    faults(16)  # the heap takes some to settle
    print(faults(4))

{first}
run()
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def page_faults(first):
    """Those of the main thread, and those of another."""
    code = FAULTS.format(first=first)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(line) for line in run.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_every_thread_gets_large_blocks_that_were_freed_without_page_faults():
    assert max(page_faults("keep_freed_memory()")) < min(page_faults("")) / 10


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("asked"))
    assert not allocator.keep_freed_memory()
