"""The service as a process for the checks: its command, its environment and its requests."""

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench.serving.servers import OURS, Running, free_port, launched, patchserve, untuned

TIMEOUT_S = 120.0  # of a request: the first one may compile


@contextmanager
def serving(
    log: Path, device: str, *flags: str, env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start the service with these flags and wait until it is ready.

    Args:
        log: file for its output.
        device: cuda or cpu.
        flags: more flags of `patchserve serve`.
        env: variables that differ from this process's environment.
    """
    port = free_port()
    command = [*patchserve(), "--port", str(port), "--device", device, "--log-level", "info"]
    command += ["--lame-duck-s", "0", *flags]
    with launched(OURS, command, port, log, env=untuned() | dict(env or {})) as server:
        yield server


def post(server: Running, path: str, body: bytes) -> tuple[int, float]:
    """Send an image; return the status and the seconds until the whole response is there."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    with closing(connection):
        began = time.perf_counter()
        connection.request("POST", path, body)
        response = connection.getresponse()
        response.read()
        return response.status, round(time.perf_counter() - began, 4)


def models(server: Running) -> list[dict[str, Any]]:
    """Return what GET /models says of each model."""
    listed: list[dict[str, Any]] = json.loads(server.get("/models")[1])["models"]
    return listed
