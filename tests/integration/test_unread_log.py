"""A log that nobody reads: the service goes on and can end. Lines come when it is read again."""

import fcntl
import json
import os
import select
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

IMAGE = (Path(__file__).parents[1] / "samples/scene-0000.png").read_bytes()
PIPE_BYTES = 2**12
REQUESTS = 2 * PIPE_BYTES // 200  # the line of a request has more bytes
POLL_S = 0.05


class Unread:
    """A service whose standard error is a pipe that only this object reads."""

    def __init__(self, command, environment, url):
        self._read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.process = subprocess.Popen(command, stderr=write, env=environment)
        os.close(write)
        self.client = httpx.Client(base_url=url, timeout=60)

    def read(self):
        """The bytes that are in the pipe; waits until there are some."""
        assert select.select([self._read], [], [], 60)[0]
        return os.read(self._read, PIPE_BYTES)

    def wait_until_ready(self):
        while True:
            assert self.process.poll() is None
            with suppress(httpx.ConnectError):
                if self.client.get("/readyz").status_code == 200:
                    return
            time.sleep(POLL_S)

    def close(self):
        self.client.close()
        self.process.kill()
        self.process.wait()
        os.close(self._read)


pytestmark = pytest.mark.skipif(
    not hasattr(fcntl, "F_SETPIPE_SZ"), reason="the size of a pipe cannot be set"
)


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)])
def unread(request, serve_command, small):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, environment = serve_command("--port", port, "--workers", request.param, *small)
    service = Unread(command, environment, f"http://127.0.0.1:{port}")
    yield service
    service.close()


def test_an_unread_log_stops_neither_requests_nor_probes_nor_the_end(unread):
    unread.wait_until_ready()
    for _ in range(REQUESTS):
        assert unread.client.get("/models").status_code == 200
    assert unread.client.post("/classify", content=IMAGE).status_code == 200
    assert unread.client.get("/livez").status_code == 200
    unread.process.terminate()
    assert unread.process.wait(60) == 0


@pytest.mark.slow  # tests/app/observability/test_log_writer.py has the writer alone
def test_when_the_log_is_read_again_all_lines_come(unread):
    unread.wait_until_ready()
    for _ in range(REQUESTS):
        unread.client.get("/models")
    last = unread.client.get("/nothing").headers["x-request-id"]
    content = b""
    while last.encode() not in content:
        content += unread.read()
    records = [json.loads(line) for line in content.rpartition(b"\n")[0].splitlines()]
    assert sum("/models" in record["message"] for record in records) == REQUESTS
