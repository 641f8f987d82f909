import os
import subprocess
import sys
import threading
import time

from bench.common.resources import sample, sampling


def test_memory_threads_and_files_of_a_process_are_counted(tmp_path):
    before = sample(os.getpid())
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with (tmp_path / "open").open("w"):
        after = sample(os.getpid())
    done.set()
    thread.join()
    assert after.rss > 10
    assert (after.threads - before.threads, after.files - before.files) == (1, 1)
    assert before.at < after.at <= time.monotonic()


def test_descendants_of_a_process_count():
    alone = sample(os.getpid())
    code = "print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.readline()
        both = sample(os.getpid())
        process.communicate(b"\n")
    assert both.threads >= alone.threads + 1


def test_a_process_that_has_ended_has_no_resources():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert sample(process.pid)[1:] == (0, 0, 0)


def test_samples_are_added_until_the_end_of_the_block():
    with sampling(os.getpid(), 0.001) as samples:
        ends = time.monotonic() + 10
        while len(samples) < 3 and time.monotonic() < ends:
            time.sleep(0.001)
    count = len(samples)
    assert count >= 3
    assert len(samples) == count
