"""The limit of open files, in a process of its own, because it cannot be undone."""

import subprocess
import sys

import pytest

SCRIPT = """
import logging, resource, sys
from app.core.process import raise_open_file_limit
soft, hard, count = map(int, sys.argv[1:])
logging.basicConfig(format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
raise_open_file_limit(count)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("limits", "count", "output"),
    [
        ((200, 1000), 500, "500 1000"),
        ((200, 1000), 100, "200 1000"),
        ((200, 400), 500, "only 400 files may be open at once, 500 are needed\n400 400"),
    ],
)
def test_the_limit_is_raised_as_far_as_allowed(limits, count, output):
    command = [sys.executable, "-c", SCRIPT, *map(str, (*limits, count))]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == output
