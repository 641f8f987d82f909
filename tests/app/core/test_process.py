"""Immediate exit, closed standard streams, and stop signals."""

import signal
import subprocess
import sys

import pytest

from app.core.process import catch_stop_signals, stop_signals

PROGRAM = """
import logging, threading, torch
from app.core.process import exit_now
from app.observability.logs import configure

configure("info")
began = threading.Event()

def compute():
    a = torch.ones(1500, 1500)
    began.set()
    while True:
        a @ a

for _ in range(2):
    threading.Thread(target=compute, daemon=True).start()
began.wait()
print("printed", end="")
for number in range(3):
    logging.getLogger("app").info("line %d", number)
exit_now(7)
"""


def test_a_process_with_busy_threads_exits_with_its_status_and_all_lines():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert ended.returncode == 7
    assert ended.stdout == "printed"
    assert [f"line {number}" in ended.stderr for number in range(3)] == [True] * 3
    assert len(ended.stderr.splitlines()) == 3


STREAMS = """
import os, sys
from app.core.process import open_standard_streams
open_standard_streams()
print("out")
print("err", file=sys.stderr)
sys.exit(os.open(os.devnull, os.O_RDONLY) <= 2)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ""])
def test_no_file_gets_the_number_of_a_closed_standard_stream(closed):
    command = f'exec "$0" -c "$1" {closed}'
    ended = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, STREAMS], capture_output=True, text=True
    )
    assert ended.returncode == 0
    assert ended.stdout == ("" if " >" in f" {closed}" else "out\n")
    assert ended.stderr == ("" if "2>" in closed else "err\n")


@pytest.fixture
def hangup():
    """Set how this process handles SIGHUP."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


def test_a_process_started_by_nohup_ignores_sighup(hangup):
    hangup(signal.SIG_DFL)
    assert set(stop_signals()) == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    hangup(signal.SIG_IGN)
    assert set(stop_signals()) == {signal.SIGTERM, signal.SIGINT}


def test_a_second_signal_interrupts_unless_it_is_sighup(hangup):
    hangup(signal.SIG_DFL)
    with catch_stop_signals() as stop_requested:
        assert not stop_requested()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert stop_requested()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


BROKEN_HANDLER = """
import logging
from app.core.process import exit_now
class Broken(logging.Handler):
    def flush(self):
        raise OSError("the terminal is closed")
logging.getLogger().addHandler(Broken())
exit_now(7)
"""


def test_a_log_that_cannot_be_written_does_not_change_the_exit_status():
    ended = subprocess.run([sys.executable, "-c", BROKEN_HANDLER], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (7, "")


NO_THREAD = """
import threading
from app.core.process import exit_now
def start(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
exit_now(3, "patchserve: cannot load: there is not enough memory")
"""


def test_without_memory_for_a_thread_the_last_line_and_the_status_are_the_same():
    ended = subprocess.run([sys.executable, "-c", NO_THREAD], capture_output=True, text=True)
    expected = (3, "patchserve: cannot load: there is not enough memory\n")
    assert (ended.returncode, ended.stderr) == expected
