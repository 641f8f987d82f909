"""Owns the service as its users run it: a real process, on a real port; and callers of it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

PATCHSERVE = Path(sys.executable).with_name("patchserve")
STARTS_WITHIN_S = 100
GIVE_UP_S = 60


@dataclass
class Service:
    """A running `patchserve serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def until(self, path: str, status: int) -> None:
        """Ask until a probe answers with a status; a process that ended instead is told."""
        with httpx.Client(base_url=self.url, timeout=STARTS_WITHIN_S) as client:
            while self._status(client, path) != status:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.02)  # what another process does has no event

    def log_lines(self) -> list[str]:
        """What was logged, but for the line that is just being written."""
        return self.log.read_text().rpartition("\n")[0].splitlines()

    def _status(self, client: httpx.Client, path: str) -> int | None:
        with suppress(httpx.ConnectError):
            return client.get(path).status_code
        return None


@pytest.fixture(scope="session")
def serve_command() -> Callable[..., tuple[list[str], dict[str, str]]]:
    """The command line of `patchserve serve` with these flags, and an environment for it."""

    def command(*flags: object) -> tuple[list[str], dict[str, str]]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PATCHSERVE_")}
        clean.pop("OMP_NUM_THREADS", None)  # the tests' own
        clean["PATCHSERVE_RUNTIME"] = "torch"  # converting takes seconds; a flag goes first
        clean["PATCHSERVE_LAME_DUCK_S"] = "0"  # nobody sends work behind the end of a test
        return [str(PATCHSERVE), "serve", *map(str, flags)], clean

    return command


@pytest.fixture(scope="session")
def launch(
    tmp_path_factory: pytest.TempPathFactory,
    serve_command: Callable[..., tuple[list[str], dict[str, str]]],
) -> Callable[..., AbstractContextManager[Service]]:
    """Start the service: `with launch("--classifier", folder) as service`.

    Another program may take the place of `patchserve`, and variables be added to its environment.
    """

    @contextmanager
    def launching(
        *flags: object, ready: bool = True, program: list[str] | None = None, **variables: str
    ) -> Iterator[Service]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path_factory.mktemp("service") / "log"
        command, environment = serve_command("--port", port, *flags)
        with log.open("wb") as output:
            command[:1] = program or command[:1]
            process = subprocess.Popen(command, stderr=output, env=environment | variables)
        service = Service(f"http://127.0.0.1:{port}", process, log)
        try:
            if ready:
                service.until("/readyz", 200)
            yield service
        finally:
            process.terminate()
            process.wait(timeout=60)

    return launching


@pytest.fixture
def refuse(
    serve_command: Callable[..., tuple[list[str], dict[str, str]]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a `patchserve serve` that must end by itself."""

    def run(*flags: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command, clean = serve_command(*flags)
        return subprocess.run(
            command, env=clean | environment, capture_output=True, text=True, timeout=100
        )

    return run


@dataclass(frozen=True)
class Answer:
    """One answer that came whole, and when its request had been sent and it was there."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent: float
    came: float

    @property
    def code(self) -> str | None:
        """The code of a problem."""
        problem = self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)["code"] if problem else None

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Connection:
    """A connection, over which requests go one after the other."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)

    async def __aenter__(self) -> "Connection":
        host, port = self._address.hostname, self._address.port
        self.reader, self.writer = await asyncio.open_connection(host, port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def send(self, method: str, path: str, body: bytes = b"", length: int | None = None) -> None:
        """Send a request, or as much of it as there is of a body of a length."""
        size = len(body) if length is None else length
        head = f"{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {size}\r\n\r\n"
        self.sent = time.monotonic()
        self.writer.write(head.encode() + body)

    async def answer(self) -> Answer:
        """The whole answer to what was sent.

        Raises:
            OSError, EOFError: it did not come.
        """
        async with asyncio.timeout(GIVE_UP_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(head[0].split()[1]), headers, body, self.sent, time.monotonic())


@dataclass
class Crowd:
    """Callers who ask until they cannot connect, or are stopped: half keep their connection.

    Attributes:
        answers: all that came.
        lost: why an answer to what had been sent over a connection did not come.
        refused: when somebody could not connect.
    """

    url: str
    body: bytes
    path: str = "/classify"
    answers: list[Answer] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    _stopping: bool = False

    def start(self, count: int) -> None:
        self._callers = [asyncio.create_task(self._call(i % 2 == 0)) for i in range(count)]

    async def until_answered(self, count: int) -> None:
        while len(self.answers) < count:
            await asyncio.sleep(0.001)
            for ended in (task for task in self._callers if task.done()):
                ended.result()

    async def until_refused(self) -> None:
        await asyncio.gather(*self._callers)

    async def stop(self) -> None:
        """Let everyone have the answer that they wait for."""
        self._stopping = True
        await asyncio.gather(*self._callers)

    async def _call(self, keeps: bool) -> None:
        while not self._stopping:
            connection = Connection(self.url)
            try:
                await connection.__aenter__()
            except OSError:
                self.refused.append(time.monotonic())
                return
            try:
                await self._ask(connection, keeps)
            except (OSError, EOFError) as error:
                self.lost.append(f"{error!r} after {time.monotonic() - connection.sent:.3f} s")
            finally:
                await connection.__aexit__()

    async def _ask(self, connection: Connection, keeps: bool) -> None:
        closed = False
        while not closed:
            connection.send("POST", self.path, self.body)
            answer = await connection.answer()
            self.answers.append(answer)
            closed = answer.closes or not keeps or self._stopping


@pytest.fixture(scope="session")
def connect() -> type[Connection]:
    """Open a connection to a service: `async with connect(service.url) as connection`."""
    return Connection


@pytest.fixture(scope="session")
def make_crowd() -> type[Crowd]:
    """Callers of a service: `make_crowd(service.url, image).start(32)`."""
    return Crowd
