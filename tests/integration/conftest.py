"""Fixtures that start the service as a real process on a real port, and clients of it."""

import asyncio
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from models import checkpoint
from models.checkpoint import Checkpoint
from models.preprocessing import Preprocessing
from models.vit import ViT, ViTConfig

PATCHSERVE = Path(sys.executable).with_name("patchserve")
STARTS_WITHIN_S = 100
ENDS_WITHIN_S = 60
RESPONDS_WITHIN_S = 60
POLL_S = 0.03  # pause between two looks at another process, which offers no event to wait for


@dataclass
class Service:
    """A running `patchserve serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @cached_property
    def _client(self) -> httpx.Client:
        """Opens a connection for each request, so that any replica may accept it."""
        unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading the certificates takes 20 ms
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(
            base_url=self.url, timeout=RESPONDS_WITHIN_S, verify=unused, limits=limits
        )

    def get(self, path: str) -> httpx.Response:
        """GET over a new connection."""
        return self._client.get(path)

    def classify(self, image: bytes) -> httpx.Response:
        """POST /classify over a new connection."""
        return self._client.post("/classify", content=image)

    def wait_for(self, condition: Callable[[], bool], within_s: float = STARTS_WITHIN_S) -> None:
        """Poll a condition; fail with the log when it does not hold in time."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(POLL_S)

    def wait_for_status(self, path: str, status: int) -> None:
        """Poll a probe until it responds with a status; fail when the process ends instead."""

        def responds() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            with suppress(httpx.ConnectError):
                return self.get(path).status_code == status
            return False

        self.wait_for(responds)

    def wait_for_text(self, path: str, text: str) -> None:
        """Poll a path until its response contains a text."""
        self.wait_for(lambda: text in self.get(path).text)

    def accepts(self) -> bool:
        """Whether the service responds at all."""
        with suppress(httpx.TransportError):
            self.get("/livez")
            return True
        return False

    def log_lines(self) -> list[str]:
        """All complete lines of the log; the last line may still be incomplete."""
        return self.log.read_text().rpartition("\n")[0].splitlines()

    def records(self) -> list[dict[str, Any]]:
        """The log lines, each parsed as JSON."""
        return [json.loads(line) for line in self.log_lines()]

    def complaints(self) -> list[dict[str, Any]]:
        """The log records of level warning or higher."""
        return [record for record in self.records() if record["level"] not in ("info", "debug")]

    def replica_pid(self, index: int) -> int:
        """The process id of a replica's latest process, read from the log."""
        messages = [one["message"] for one in self.records() if one.get("replica") == index]
        started = (re.match(r"Started .*\[(\d+)\]", message) for message in messages)
        return [int(match[1]) for match in started if match][-1]

    def wait_for_replicas(self, count: int = 2) -> None:
        """Wait until all replicas are ready."""
        self.wait_for_status("/readyz", 200)
        ready = {str(index): "ready" for index in range(count)}
        self.wait_for(lambda: self.get("/readyz").json()["replicas"] == ready)

    @staticmethod
    def has_ended(pid: int) -> bool:
        """Whether a process of the service no longer exists."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    def exit_status(self) -> tuple[int, float]:
        """Wait for the end of the process: its exit status, and the seconds until then."""
        began = time.monotonic()
        return self.process.wait(ENDS_WITHIN_S), time.monotonic() - began


@pytest.fixture(scope="session")
def serve_command(
    process_coverage: dict[str, str],
) -> Callable[..., tuple[list[str], dict[str, str]]]:
    """The command line of `patchserve serve` with these flags, and an environment for it.

    The coverage of the process is measured only on request.
    """

    def command(*flags: object, measured: bool = False) -> tuple[list[str], dict[str, str]]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PATCHSERVE_")}
        clean.pop("OMP_NUM_THREADS", None)  # set for the tests, not for the service
        if measured:
            clean |= process_coverage
        clean["PATCHSERVE_RUNTIME"] = "torch"  # converting takes seconds; a flag overrides it
        clean["PATCHSERVE_MAX_BATCH_SIZE"] = "4"  # the warm-up measures every size
        clean["PATCHSERVE_LAME_DUCK_S"] = "0"  # no load balancer sends requests at the end
        return [str(PATCHSERVE), "serve", *map(str, flags)], clean

    return command


@pytest.fixture(scope="session")
def launch(
    tmp_path_factory: pytest.TempPathFactory,
    serve_command: Callable[..., tuple[list[str], dict[str, str]]],
) -> Callable[..., AbstractContextManager[Service]]:
    """Start the service: `with launch("--classifier", folder) as service`.

    Another program can take the place of `patchserve`, and variables can be added to its
    environment.
    """

    @contextmanager
    def launching(
        *flags: object,
        ready: bool = True,
        measured: bool = False,
        program: list[str] | None = None,
        **variables: str,
    ) -> Iterator[Service]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path_factory.mktemp("service") / "log"
        command, environment = serve_command("--port", port, *flags, measured=measured)
        with log.open("wb") as output:
            command[:1] = program or command[:1]
            process = subprocess.Popen(command, stderr=output, env=environment | variables)
        service = Service(f"http://127.0.0.1:{port}", process, log)
        try:
            if ready:
                service.wait_for_status("/readyz", 200)
            yield service
        finally:
            process.terminate()
            process.wait(timeout=ENDS_WITHIN_S)

    return launching


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Flags that serve a tiny classifier alone, for tests of which predictions are no subject.

    It loads and warms up in a fraction of the time of the bundled checkpoints.
    """
    config = ViTConfig(
        image_size=(32, 32),
        patch_size=16,
        hidden_size=16,
        num_layers=1,
        num_heads=1,
        mlp_size=16,
        num_labels=3,
    )
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    labels, preprocessing = ("cat", "dog", "neither"), Preprocessing(size=(32, 32))
    network = ViT(config).eval()
    checkpoint.save(Checkpoint(network, labels, preprocessing, "classify"), folder)
    return ("--classifier", folder, "--segmenter", "none")


@pytest.fixture(scope="session")
def bundled(launch: Callable[..., AbstractContextManager[Service]]) -> Iterator[Service]:
    """The bundled checkpoints with the default settings, for tests that only send requests."""
    with launch() as service:
        yield service


@pytest.fixture
def refuse(
    serve_command: Callable[..., tuple[list[str], dict[str, str]]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a `patchserve serve` that must end without a signal."""

    def run(*flags: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command, clean = serve_command(*flags)
        return subprocess.run(
            command, env=clean | environment, capture_output=True, text=True, timeout=100
        )

    return run


@dataclass(frozen=True)
class Response:
    """A complete response, when its request was sent, and when the response was complete."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent_at: float
    received_at: float

    @property
    def code(self) -> str | None:
        """The code of a problem; None for any other body."""
        problem = self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)["code"] if problem else None

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Connection:
    """A connection that sends one request after another."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def __aenter__(self) -> "Connection":
        host, port = self._address.hostname, self._address.port
        self.reader, self.writer = await asyncio.open_connection(host, port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def send(self, method: str, path: str, body: bytes = b"", length: int | None = None) -> None:
        """Send a request; with a `length` greater than the body's, an incomplete one."""
        size = len(body) if length is None else length
        head = f"{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {size}\r\n\r\n"
        self.sent_at = time.monotonic()
        self.writer.write(head.encode() + body)

    async def response(self) -> Response:
        """The complete response to the request.

        Raises:
            OSError, EOFError: the connection ended before.
        """
        async with asyncio.timeout(RESPONDS_WITHIN_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await self.reader.readexactly(int(headers["content-length"]))
        status = int(head[0].split()[1])
        return Response(status, headers, body, self.sent_at, time.monotonic())


@dataclass
class Crowd:
    """Clients that send requests until they cannot connect or are stopped.

    Every second client keeps its connection open.

    Attributes:
        pause_s: pause of each client after a response.
        responses: all complete responses.
        lost: why a sent request got no response.
        refused_at: when a client could not connect.
    """

    url: str
    body: bytes
    path: str = "/classify"
    pause_s: float = 0.0
    responses: list[Response] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    _stopping: bool = False

    def start(self, count: int) -> None:
        self._clients = [asyncio.create_task(self._run(i % 2 == 0)) for i in range(count)]

    async def until_responses(self, count: int) -> None:
        """Wait until there are at least `count` responses."""
        while len(self.responses) < count:
            await asyncio.sleep(0.001)
            for ended in (task for task in self._clients if task.done()):
                ended.result()

    async def until_refused(self) -> None:
        """Wait until no client can connect any more."""
        await asyncio.gather(*self._clients)

    async def stop(self) -> None:
        """Stop after the responses to all requests in flight."""
        self._stopping = True
        await asyncio.gather(*self._clients)

    async def _run(self, keep_alive: bool) -> None:
        while not self._stopping:
            connection = Connection(self.url)
            try:
                await connection.__aenter__()
            except OSError:
                self.refused_at.append(time.monotonic())
                return
            try:
                await self._send_requests(connection, keep_alive)
            except (OSError, EOFError) as error:
                self.lost.append(f"{error!r} after {time.monotonic() - connection.sent_at:.3f} s")
            finally:
                await connection.__aexit__()

    async def _send_requests(self, connection: Connection, keep_alive: bool) -> None:
        closed = False
        while not closed:
            connection.send("POST", self.path, self.body)
            response = await connection.response()
            self.responses.append(response)
            await asyncio.sleep(self.pause_s)
            closed = response.closes or not keep_alive or self._stopping


@pytest.fixture(scope="session")
def connect() -> type[Connection]:
    """Open a connection to a service: `async with connect(service.url) as connection`."""
    return Connection


@pytest.fixture(scope="session")
def make_crowd() -> type[Crowd]:
    """Clients of a service: `make_crowd(service.url, image).start(32)`."""
    return Crowd
