"""The process: it opens its port before it is ready, and says in one line why it cannot start."""

import json
import socket
import subprocess

import httpx
import pytest


@pytest.fixture
def refuse(serve_command):
    """Run a `patchserve serve` that must end by itself."""

    def run(*flags, **environment):
        command, clean = serve_command(*flags)
        return subprocess.run(
            command, env=clean | environment, capture_output=True, text=True, timeout=100
        )

    return run


def test_a_checkpoint_that_is_not_there_ends_the_process_with_3_and_one_line(refuse, tmp_path):
    ended = refuse("--classifier", tmp_path / "nothing", "--port", 0)
    assert ended.returncode == 3
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("patchserve: cannot load: ")
    assert "nothing" in last
    assert "Traceback" not in ended.stderr


def test_a_checkpoint_for_the_other_task_is_refused(refuse):
    from models.checkpoint import bundled

    ended = refuse("--classifier", bundled("segment"), "--port", 0)
    assert ended.returncode == 3
    assert "not to classify" in ended.stderr


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        (["--max-batch-size", "0"], {}, "max_batch_size"),
        (["--device", "tpu"], {}, "device"),
        (["--device", "cuda:63"], {}, "cuda:63"),
        ([], {"PATCHSERVE_MAX_BATCHSIZE": "4"}, "PATCHSERVE_MAX_BATCHSIZE"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(refuse, flags, environment, said):
    ended = refuse(*flags, **environment)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken_ends_the_process(refuse):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = refuse("--port", taken.getsockname()[1])
    assert ended.returncode != 0
    assert "address already in use" in ended.stderr


def test_the_port_is_open_while_the_models_load(launch):
    with launch(ready=False) as service:
        service.until("/livez", 200)
        early = httpx.get(f"{service.url}/startupz")
        assert early.status_code in (200, 503)
        assert set(early.json()["models"]) == {"shapes-vit", "shapes-segformer"}
        service.until("/startupz", 200)
        assert httpx.get(f"{service.url}/readyz").status_code == 200


def test_away_from_a_terminal_each_log_line_is_json(launch):
    with launch() as service:
        httpx.get(f"{service.url}/livez", headers={"X-Request-Id": "find-me"})
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert any(line.get("request_id") == "find-me" for line in lines)
