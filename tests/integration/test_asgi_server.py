"""The app on a plain ASGI server: a real `uvicorn` process with `app.main:application`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

SAMPLES = Path(__file__).parents[1] / "samples"
START_TIMEOUT_S = 100


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """The URL, the process and the log of a uvicorn that serves the app."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PATCHSERVE_")}
    environment |= {"PATCHSERVE_RUNTIME": "torch", "PATCHSERVE_WORKERS": "2"}
    environment["PATCHSERVE_SEGMENTER"] = "none"
    environment["PATCHSERVE_MAX_BATCH_SIZE"] = "4"  # the warm-up measures every size
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:application"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--no-access-log"], stderr=output, env=environment
        )
    yield f"http://127.0.0.1:{port}", process, log
    process.kill()
    process.wait(timeout=60)


@pytest.mark.timeout(240)  # the process imports torch and loads two models
def test_a_plain_uvicorn_serves_the_app_and_ends_by_sigterm(server, truth):
    url, process, log = server
    name, expected = next(iter(truth.items()))
    with httpx.Client(base_url=url, timeout=60) as client:
        wait_until_ready(client, process, log)
        response = client.post("/classify", content=(SAMPLES / name).read_bytes())
        series = client.get("/metrics").text
    assert response.status_code == 200
    assert response.json()["predictions"][0]["label"] == expected["label"]
    assert 'http_requests_total{code="200",method="POST",route="/classify"} 1.0' in series
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) in (0, -signal.SIGTERM)  # uvicorn raises the signal again
    lines = log.read_text()
    assert "only patchserve serve uses these settings: workers" in lines
    assert '"route":"/classify"' in lines
    assert "Traceback" not in lines


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll /readyz until it is 200."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.ConnectError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.02)  # the start of another process has no event
    pytest.fail(log.read_text())
