"""`patchserve serve`: errors before the service starts, each one line."""

import socket

import pytest
from typer.testing import CliRunner

from app.__main__ import cli
from app.cli import serve
from app.core.process import START_FAILED, USAGE_ERROR


@pytest.fixture
def refuse(monkeypatch):
    """Run a `patchserve serve` in this process that must end before it serves."""
    monkeypatch.setattr(serve.logs, "configure", lambda level: None)
    monkeypatch.setattr(serve, "run", lambda *_, **__: pytest.fail("the service has started"))

    def run(*flags: object, **environment: str):
        return CliRunner().invoke(cli, ["serve", *map(str, flags)], env=environment)

    return run


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ([], {"PATCHSERVE_MAX_BATCHSIZE": "4"}, "PATCHSERVE_MAX_BATCHSIZE"),
        (["--max-batch-size", "0"], {}, "--max-batch-size: "),
        (["--device", "tpu"], {}, "--device: "),
        ([], {"PATCHSERVE_API_KEYS": "of-the-variable-0001,short-key"}, "PATCHSERVE_API_KEYS: "),
    ],
)
def test_a_wrong_setting_is_refused_by_name(refuse, flags, environment, expected):
    ended = refuse(*flags, **environment)
    assert ended.exit_code == USAGE_ERROR
    assert expected in ended.stderr
    assert "short-key" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("flags", [["--port"], ["--port", 0, "--ops-port"]])
def test_a_port_in_use_is_reported_in_one_line(refuse, flags):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = refuse(*flags, port)
    assert ended.exit_code == START_FAILED
    expected = f"patchserve: cannot listen on 127.0.0.1:{port}: address already in use"
    assert ended.stderr.splitlines() == [expected]


def test_an_unknown_host_is_reported_in_one_line(refuse):
    ended = refuse("--host", "no-such-host.invalid")
    assert ended.exit_code == START_FAILED
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("patchserve: cannot listen on no-such-host.invalid:8000: ")


def test_an_unknown_flag_is_reported_in_the_last_line(refuse):
    ended = refuse("--nonsense", 3)
    assert ended.exit_code == USAGE_ERROR
    assert "No such option: --nonsense" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("host", "keys", "warns"),
    [
        ("0.0.0.0", "", True),  # noqa: S104  # on purpose
        ("0.0.0.0", "of-the-variable-0001", False),  # noqa: S104
        ("127.0.0.1", "", False),
    ],
)
def test_a_service_without_keys_that_other_machines_reach_logs_a_warning(
    refuse, monkeypatch, caplog, host, keys, warns
):
    monkeypatch.setattr(serve, "run", lambda *_, **__: None)
    monkeypatch.setattr(serve, "exit_now", lambda status: None)
    refuse("--host", host, "--port", 0, PATCHSERVE_API_KEYS=keys)
    assert ("no API keys are configured" in caplog.text) == warns
