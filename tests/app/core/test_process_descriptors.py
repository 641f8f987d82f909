"""The limit of open files, of a process of its own: it cannot be taken back."""

import subprocess
import sys

import pytest

SCRIPT = """
import logging, resource, sys
from app.core.process import allow_files
soft, hard, wanted = map(int, sys.argv[1:])
logging.basicConfig(format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
allow_files(wanted)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("limits", "wanted", "told"),
    [
        ((200, 1000), 500, "500 1000"),
        ((200, 1000), 100, "200 1000"),
        ((200, 400), 500, "only 400 files may be open at once, 500 are wanted\n400 400"),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be(limits, wanted, told):
    command = [sys.executable, "-c", SCRIPT, *map(str, (*limits, wanted))]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == told
