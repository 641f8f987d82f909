import subprocess
import sys
from pathlib import Path

import pytest

from bench.common.cpu import PROC
from bench.serving.servers import Server, Site, free_port, launched, ours, ours_from

SERVER = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
PROGRAM = """
import signal, sys
from pathlib import Path
from bench.common.sigterm import exit_on_sigterm
from bench.serving.servers import Server, launched

command, port, log = sys.argv[3:], int(sys.argv[1]), Path(sys.argv[2])
kind = Server(lambda site: command, "/")
with exit_on_sigterm(), launched("a server", command, port, log, server=kind) as server:
    server.signal(signal.SIGSTOP)
    print(server.pid, flush=True)
    signal.pause()
"""


def site(tmp_path):
    return Site(tmp_path, "segment", "torch", 8001)


def test_a_stopped_server_ends_when_the_benchmark_gets_sigterm(tmp_path):
    port = free_port()
    arguments = [str(port), str(tmp_path / "log"), *SERVER, str(port)]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        server = int(process.stdout.readline())
        process.terminate()
        assert process.wait(30) == 143
    assert not (PROC / str(server)).exists()


def test_a_server_that_does_not_start_is_an_error_with_its_output(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no such checkpoint')"]
    kind = Server(lambda site: command, "/")
    with (
        pytest.raises(RuntimeError, match="no such checkpoint"),
        launched("a server", command, free_port(), tmp_path / "log", server=kind),
    ):
        pass


def test_the_service_serves_one_model(tmp_path):
    command = ours(site(tmp_path))
    assert command[command.index("--segmenter") + 1] == str(tmp_path)
    assert command[command.index("--classifier") + 1] == "none"


def test_another_checkout_runs_from_its_own_modules(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PATCHSERVE_DEVICE", "cpu")
    command, env = ours_from(Path("/elsewhere"), site(tmp_path))
    assert command[1:5] == ["-P", "-m", "app", "serve"]
    assert env["PYTHONPATH"] == "/elsewhere"
    assert not {"OMP_NUM_THREADS", "PATCHSERVE_DEVICE"} & set(env)
