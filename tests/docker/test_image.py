import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"\\\n", " ", DOCKERFILE)
HADOLINT = shutil.which("hadolint")


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of a server whose /livez answers this."""

    class Livez(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with HTTPServer(("127.0.0.1", 0), Livez) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health_check(port: int, name: str = "PATCHSERVE_PORT") -> int:
    """The exit status of the image's health check, run by this Python."""
    command = json.loads(re.search(r"HEALTHCHECK .*?CMD (\[.*\])", INSTRUCTIONS)[1])
    environment = {name: str(port), "http_proxy": "http://127.0.0.1:9"}
    arguments = [sys.executable, *command[1:]]
    return subprocess.run(arguments, env=environment, capture_output=True).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_livez(status, healthy):
    with answering(status) as port:
        assert (health_check(port) == 0) is healthy


def test_the_health_check_asks_where_the_probes_are():
    with answering(200) as port:
        assert health_check(port, "PATCHSERVE_OPS_PORT") == 0


def test_the_health_check_fails_where_nothing_listens():
    with answering(200) as port:
        pass
    assert health_check(port) != 0


def test_what_the_image_copies_is_sent_to_the_build():
    sent = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copies = re.findall(r"^COPY (?!--from)(.+)$", INSTRUCTIONS, re.MULTILINE)
    copied = {source for line in copies for source in shlex.split(line)[:-1]}
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_a_numbered_user_that_is_not_root():
    assert re.findall(r"^USER (\d+):(\d+)$", INSTRUCTIONS, re.MULTILINE) == [("10001", "10001")]


def test_no_address_of_an_index_is_written_down():
    assert "://" not in DOCKERFILE


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_accepts_the_dockerfile():
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
