"""Owns the servers that are measured: how each is started, asked, and stopped.

Knows nothing of how they are measured.
"""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bench.common.cpu import processes, tree
from bench.runtimes.race import TUNING

START_S = 120.0
OURS = "patchserve"
REPLICAS = "patchserve, a replica a core"
STARTING = re.compile("loading|starting|warming_up|waiting|ended")  # what a replica may still be


class Site(NamedTuple):
    """What is to be served: a checkpoint for a task, in one of our runtimes, on a port."""

    folder: Path
    task: str  # classify or segment
    runtime: str
    port: int


def ours(site: Site) -> list[str]:
    """The service as anyone starts it."""
    other = {"classify": "segmenter", "segment": "classifier"}[site.task]
    mine = {"classify": "classifier", "segment": "segmenter"}[site.task]
    models = [f"--{mine}", str(site.folder), f"--{other}", "none"]
    return [*bundled(site.port), "--runtime", site.runtime, *models]


def bundled(port: int) -> list[str]:
    """The service with the checkpoints that come with it."""
    patchserve = str(Path(sys.executable).with_name("patchserve"))
    return [patchserve, "serve", "--port", str(port), "--log-level", "warning"]


def replicas(site: Site) -> list[str]:
    """The service as processes with a core each."""
    return [*ours(site), "--workers", str(os.cpu_count() or 1)]


def peer(module: str, runtime: str = "") -> Callable[[Site], list[str]]:
    """A program of bench.serving.peers, over our network or over a runtime of its own."""

    def command(site: Site) -> list[str]:
        program = [sys.executable, "-m", f"bench.serving.peers.{module}"]
        return [*program, str(site.folder), str(site.port), runtime or site.runtime]

    return command


def raw(path: str, photo: bytes) -> bytes:
    """A request whose body is the file."""
    return whole(path, "image/jpeg", photo)


def multipart(path: str, photo: bytes) -> bytes:
    """A request with the file as the part `file` of a form."""
    edge = "patchserve-bench"
    name = 'Content-Disposition: form-data; name="file"; filename="photo.jpg"'
    before = f"--{edge}\r\n{name}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
    body = before + photo + f"\r\n--{edge}--\r\n".encode()
    return whole(path, f"multipart/form-data; boundary={edge}", body)


def whole(path: str, content_type: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Server(NamedTuple):
    """One server: how it is started, where it says that it is ready, and how it is asked."""

    command: Callable[[Site], list[str]]
    ready: str
    path: str = "/{task}"
    request: Callable[[str, bytes], bytes] = raw
    needs: str = ""  # a package, for those that not everyone has


SERVERS = {
    OURS: Server(ours, "/readyz"),
    REPLICAS: Server(replicas, "/readyz"),
    "mosec": Server(peer("mosec_"), "/", "/inference", needs="mosec"),
    "LitServe": Server(peer("lit"), "/health", request=multipart, needs="litserve"),
    "FastAPI": Server(peer("by_hand"), "/ready"),
    "FastAPI, transformers": Server(peer("by_hand", "pipeline"), "/ready"),
}


def installed(name: str) -> bool:
    """Whether the server can be started here."""
    return not SERVERS[name].needs or find_spec(SERVERS[name].needs) is not None


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def untuned() -> dict[str, str]:
    """The environment without the variables that tune threads and allocators."""
    return {k: v for k, v in os.environ.items() if not k.startswith((*TUNING, "PATCHSERVE_"))}


class Running(NamedTuple):
    """A server that runs: its first process and its port."""

    name: str
    pid: int
    port: int

    def signal(self, number: signal.Signals) -> None:
        """Send all its processes a signal: SIGSTOP takes a server out of the others' way, for some
        are busy even when nobody asks them anything.
        """
        for pid in tree(self.pid, dict(processes())):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def get(self, path: str) -> tuple[int, str]:
        """The status and the text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@contextmanager
def running(name: str, folder: Path, task: str, runtime: str) -> Iterator[Running]:
    """A server, ready, as long as the `with` lasts.

    Raises:
        RuntimeError: it did not become ready.
    """
    site = Site(folder, task, runtime, free_port())
    with launched(name, SERVERS[name].command(site), site.port, folder / "servers.log") as here:
        yield here


@contextmanager
def launched(name: str, command: Sequence[str], port: int, log: Path) -> Iterator[Running]:
    """A server that is started by a command, ready, as long as the `with` lasts.

    Raises:
        RuntimeError: it did not become ready.
    """
    with log.open("a") as written:
        streams = {"stdout": written, "stderr": written}
        process = subprocess.Popen(command, env=untuned(), **streams)  # noqa: S603  # one of ours
    here = Running(name, process.pid, port)
    try:
        wait(here, process, log)
        yield here
    finally:
        stop(here, process)


def wait(server: Running, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the server says that it is ready."""
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            status, text = server.get(SERVERS[server.name].ready)
            if status == 200 and not STARTING.search(text):
                return
        time.sleep(0.1)
    raise RuntimeError(f"{server.name} did not start: {log.read_text()[-2000:]}")


def stop(server: Running, process: "subprocess.Popen[bytes]") -> None:
    """End a server; what does not leave when it is asked to is killed."""
    family = tree(server.pid, dict(processes()))
    server.signal(signal.SIGCONT)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
