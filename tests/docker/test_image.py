"""The Dockerfile: what it copies, its user, and its health check."""

import importlib.util
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

from app.core.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"\\\n", " ", DOCKERFILE)
HADOLINT = shutil.which("hadolint")


@contextmanager
def livez(status: int) -> Iterator[int]:
    """Serve /livez with a status, and yield the port."""

    class Livez(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Livez) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def health_check(tmp_path):
    """Run the image's health check with this Python; return its exit status."""

    def run(*arguments: str, **environment: int) -> int:
        process_1 = tmp_path / "cmdline"
        process_1.write_text("\0".join(["/opt/patchserve/bin/patchserve", "serve", *arguments, ""]))
        command = json.loads(re.search(r"HEALTHCHECK .*?CMD (\[.*\])", INSTRUCTIONS)[1])
        assert command == ["python", "/opt/patchserve/healthcheck.py", "/proc/1/cmdline"]
        variables = {f"PATCHSERVE_{name}": str(value) for name, value in environment.items()}
        return subprocess.run(
            [sys.executable, ROOT / "docker/healthcheck.py", process_1],
            env=variables | {"http_proxy": "http://127.0.0.1:9"},
            capture_output=True,
        ).returncode

    return run


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_livez(health_check, status, healthy):
    with livez(status) as port:
        assert (health_check(PORT=port) == 0) is healthy


def test_the_health_check_fails_without_a_service(health_check):
    with livez(200) as port:
        pass
    assert health_check(PORT=port) != 0


def test_the_health_check_uses_the_ops_port_if_there_is_one(health_check):
    with livez(200) as ops, livez(404) as port:
        assert health_check(PORT=port, OPS_PORT=ops) == 0
        assert health_check("--ops-port", str(ops), PORT=port) == 0
        assert health_check("--ops-port", "0", PORT=ops, OPS_PORT=port) == 0


def test_a_flag_of_the_service_wins_over_the_variable_in_the_health_check(health_check):
    with livez(200) as port, livez(404) as other:
        assert health_check("--port", str(port)) == 0
        assert health_check(f"--port={port}", "--log-level", "debug", PORT=other) == 0
        assert health_check("--port", str(other), "--port", str(port)) == 0


def test_the_health_check_has_the_default_ports_of_the_service():
    spec = importlib.util.spec_from_file_location("healthcheck", ROOT / "docker/healthcheck.py")
    healthcheck = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(healthcheck)
    fields = Settings.model_fields
    assert {name: fields[name].default for name in healthcheck.DEFAULTS} == healthcheck.DEFAULTS


def test_copied_files_are_in_the_build_context():
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
