"""Ending a command with a message."""

import fcntl
import os
import subprocess
import sys

import pytest
import typer
from pydantic import ValidationError

from app.cli.console import one_line, stop
from app.core.settings import Settings

PIPE_BYTES = 2**12
PROGRAM = f"""
import logging, sys
from app.cli.console import stop
from app.observability.logs import configure

if sys.argv[1] == "log":
    configure("info")
    logging.getLogger("app").info("x" * {2 * PIPE_BYTES})
stop("the reason", 3)
"""


def test_a_message_is_a_line_on_standard_error(capsys):
    with pytest.raises(typer.Exit) as ended:
        stop("the reason", 3)
    assert ended.value.exit_code == 3
    assert capsys.readouterr() == ("", "patchserve: the reason\n")


def test_the_message_about_a_setting_has_no_words_of_the_library():
    with pytest.raises(ValidationError) as refused:
        Settings(samples="/there/is/none")
    assert one_line(refused.value) == "--samples: there is no folder /there/is/none"
    with pytest.raises(ValidationError) as refused:
        Settings(api_keys="short")
    assert one_line(refused.value).startswith("PATCHSERVE_API_KEYS: ")


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="the size of a pipe cannot be set")
@pytest.mark.parametrize("writes", ["log", "message only"])
def test_a_command_ends_with_its_status_if_nobody_reads_its_messages(writes):
    unread, error = os.pipe()
    try:
        fcntl.fcntl(error, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.write(error, bytes(PIPE_BYTES))  # the pipe is full
        command = [sys.executable, "-c", PROGRAM, writes]
        assert subprocess.run(command, stderr=error, timeout=60).returncode == 3
    finally:
        os.close(error)
        os.close(unread)
