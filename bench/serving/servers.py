"""The servers that are measured: how each is started, called and stopped."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bench.common.cpu import processes, tree
from bench.runtimes.race import TUNING
from bench.serving.http_requests import multipart_request, raw_request

START_S = 120.0  # time for a server to become ready
STOP_S = 10.0  # time for a server to end after SIGTERM
GET_TIMEOUT_S = 5.0  # time for the response to a GET request
OURS = "patchserve"
REPLICAS = "patchserve, a replica a core"
NOT_READY = re.compile("loading|starting|warming_up|waiting|ended")  # states of a replica


class Site(NamedTuple):
    """What a server serves: a checkpoint for a task, with one of our runtimes, on a port."""

    folder: Path
    task: str  # classify or segment
    runtime: str
    port: int


def ours(site: Site) -> list[str]:
    """Return the command of the service for a site."""
    return [*patchserve(), *flags(site)]


def ours_from(checkout: Path, site: Site) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of the service of another checkout.

    Only the command line of the other checkout is used, so its modules may have other names.
    """
    command = [sys.executable, "-P", "-m", "app", "serve", *flags(site)]
    command += ["--lame-duck-s", "0"]  # several starts of one run should end quickly
    return command, {**untuned(), "PYTHONPATH": str(checkout)}


def flags(site: Site) -> list[str]:
    """Return the flags of `patchserve serve` for a site."""
    served, other = "classifier", "segmenter"
    if site.task == "segment":
        served, other = other, served
    models = [f"--{served}", str(site.folder), f"--{other}", "none"]
    return [*common_flags(site.port), "--runtime", site.runtime, *models]


def bundled(port: int) -> list[str]:
    """Return the command of the service with the bundled checkpoints."""
    return [*patchserve(), *common_flags(port)]


def patchserve() -> list[str]:
    """Return the command of `patchserve serve`, which works without an installed `patchserve`."""
    return [sys.executable, "-m", "app", "serve"]


def common_flags(port: int) -> list[str]:
    """Return the flags that all measurements use."""
    return ["--port", str(port), "--log-level", "warning"]


def replicas(site: Site) -> list[str]:
    """Return the command of the service with one replica per core."""
    return [*ours(site), "--workers", str(os.cpu_count() or 1)]


def peer(module: str, runtime: str = "") -> Callable[[Site], list[str]]:
    """Return the command of a program of bench.serving.peers, with our or with its own runtime."""

    def command(site: Site) -> list[str]:
        program = [sys.executable, "-m", f"bench.serving.peers.{module}"]
        return [*program, str(site.folder), str(site.port), runtime or site.runtime]

    return command


class Server(NamedTuple):
    """A kind of server.

    Attributes:
        command: gives the command that starts it.
        ready: path that answers 200 when the server is ready.
        path: path of the requests.
        request: makes a request from a path and the bytes of a photograph.
        needs: an optional package that it requires.
        metrics: whether /metrics has the service's histograms.
    """

    command: Callable[[Site], list[str]]
    ready: str
    path: str = "/{task}"
    request: Callable[[str, bytes], bytes] = raw_request
    needs: str = ""
    metrics: bool = False


SERVERS = {
    OURS: Server(ours, "/readyz", metrics=True),
    REPLICAS: Server(replicas, "/readyz"),
    "mosec": Server(peer("mosec_app"), "/", "/inference", needs="mosec"),
    "LitServe": Server(
        peer("litserve_app"), "/health", request=multipart_request, needs="litserve"
    ),
    "FastAPI": Server(peer("fastapi_app"), "/ready"),
    "FastAPI, transformers": Server(peer("fastapi_app", "pipeline"), "/ready"),
}


def installed(name: str) -> bool:
    """Return whether the server's packages are installed."""
    return not SERVERS[name].needs or find_spec(SERVERS[name].needs) is not None


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def untuned() -> dict[str, str]:
    """Return the environment without variables that tune threads, allocators or the service."""
    return {k: v for k, v in os.environ.items() if not k.startswith((*TUNING, "PATCHSERVE_"))}


class Running(NamedTuple):
    """A running server: its first process and its port."""

    name: str
    pid: int
    port: int
    server: Server

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the server.

        SIGSTOP keeps a server from using CPU time while another one is measured: some servers do
        so even without requests.
        """
        for pid in tree(self.pid, dict(processes())):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a GET request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GET_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@contextmanager
def running(name: str, folder: Path, task: str, runtime: str) -> Iterator[Running]:
    """Start a server of SERVERS, wait until it is ready, and stop it after the `with` block.

    Raises:
        RuntimeError: it did not become ready.
    """
    site = Site(folder, task, runtime, free_port())
    with launched(name, SERVERS[name].command(site), site.port, folder / "servers.log") as server:
        yield server


@contextmanager
def launched(
    name: str,
    command: Sequence[str],
    port: int,
    log: Path,
    *,
    server: Server | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Start a server by its command, wait until it is ready, and stop it after the `with` block.

    Args:
        name: the name in messages and results.
        command: the command.
        port: the port that the command names.
        log: the file for its output.
        server: the kind of server; by default the kind called `name`.
        env: its environment; by default this process's without variables that tune.

    Raises:
        RuntimeError: it did not become ready.
    """
    with log.open("a") as output:
        process = subprocess.Popen(  # noqa: S603  # a command of this module
            command, env=untuned() if env is None else env, stdout=output, stderr=output
        )
    instance = Running(name, process.pid, port, server or SERVERS[name])
    try:
        wait_until_ready(instance, process, log)
        yield instance
    finally:
        stop(instance, process)


def wait_until_ready(server: Running, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Poll the server until it is ready."""
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            status, text = server.get(server.server.ready)
            if status == 200 and not NOT_READY.search(text):
                return
        time.sleep(0.1)
    raise RuntimeError(f"{server.name} did not start: {log.read_text()[-2000:]}")


def stop(server: Running, process: "subprocess.Popen[bytes]") -> None:
    """Stop a server: SIGTERM first, SIGKILL for all processes that are left."""
    members = tree(server.pid, dict(processes()))
    server.signal(signal.SIGCONT)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    for pid in members:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
