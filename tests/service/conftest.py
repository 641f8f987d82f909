"""Owns the service as its users run it: a real process, on a real port."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

PATCHSERVE = Path(sys.executable).with_name("patchserve")
STARTS_WITHIN_S = 100


@dataclass
class Service:
    """A running `patchserve serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def until(self, path: str, status: int) -> None:
        """Ask until a probe answers with a status; a process that ended instead is told."""
        transport = httpx.HTTPTransport(retries=10)  # of refused connections, with growing pauses
        with httpx.Client(
            transport=transport, base_url=self.url, timeout=STARTS_WITHIN_S
        ) as client:
            while client.get(path).status_code != status:
                assert self.process.poll() is None, self.log.read_text()


@pytest.fixture(scope="session")
def serve_command() -> Callable[..., tuple[list[str], dict[str, str]]]:
    """The command line of `patchserve serve` with these flags, and an environment for it."""

    def command(*flags: object) -> tuple[list[str], dict[str, str]]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PATCHSERVE_")}
        clean.pop("OMP_NUM_THREADS", None)  # the tests' own
        clean["PATCHSERVE_RUNTIME"] = "torch"  # converting takes seconds; a flag goes first
        return [str(PATCHSERVE), "serve", *map(str, flags)], clean

    return command


@pytest.fixture(scope="session")
def launch(
    tmp_path_factory: pytest.TempPathFactory,
    serve_command: Callable[..., tuple[list[str], dict[str, str]]],
) -> Callable[..., AbstractContextManager[Service]]:
    """Start the service: `with launch("--classifier", folder) as service`."""

    @contextmanager
    def launching(
        *flags: object, ready: bool = True, variables: Mapping[str, str] | None = None
    ) -> Iterator[Service]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path_factory.mktemp("service") / "log"
        command, environment = serve_command("--port", port, *flags)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stderr=output, env=environment | dict(variables or {})
            )
        service = Service(f"http://127.0.0.1:{port}", process, log)
        try:
            if ready:
                service.until("/readyz", 200)
            yield service
        finally:
            process.terminate()
            process.wait(timeout=60)

    return launching
