"""Immediate exit: with running threads, and after all output is written."""

import subprocess
import sys

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
