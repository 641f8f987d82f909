"""The process: it opens its port before it is ready, and says in one line why it cannot start."""

import json
import os
import resource
import shutil
import socket
import subprocess

import httpx
import pytest

from models.checkpoint import bundled


def nothing(folder):
    pass


def truncated(folder):
    shutil.copytree(bundled("classify"), folder)
    os.truncate(folder / "model.safetensors", 20_000)


def of_another_kind(folder):
    shutil.copytree(bundled("classify"), folder)
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')


def unreadable(folder):
    shutil.copytree(bundled("classify"), folder)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("make", [nothing, truncated, of_another_kind, unreadable])
def test_a_checkpoint_that_cannot_be_loaded_ends_the_process_with_3_and_one_line(
    refuse, tmp_path, make, workers
):
    make(tmp_path / "odd")
    ended = refuse("--classifier", tmp_path / "odd", "--port", 0, "--workers", workers)
    assert ended.returncode == 3
    assert ended.stderr.count("patchserve: ") == 1
    assert ended.stderr.splitlines()[-1].startswith("patchserve: cannot load: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="memory cannot be limited")
def test_too_little_memory_ends_the_process_with_3_and_one_line(serve_command):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1_200_000_000, 1_200_000_000))

    command, environment = serve_command("--port", 0)
    ended = subprocess.run(
        command, env=environment, preexec_fn=limit, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 3
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("patchserve: cannot load: ")
    assert "Traceback" not in ended.stderr


def test_a_checkpoint_for_the_other_task_is_refused(refuse):
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


def test_a_port_that_is_taken_is_told_in_one_line(refuse):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = refuse("--port", port)
    assert ended.returncode == 1
    told = f"patchserve: cannot listen on 127.0.0.1:{port}: address already in use"
    assert ended.stderr.splitlines() == [told]


def test_an_address_that_is_not_there_is_told_in_one_line(refuse):
    ended = refuse("--host", "no-such-host.invalid")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("patchserve: cannot listen on no-such-host.invalid:8000: ")


def test_an_unknown_flag_is_told_in_the_last_line(refuse):
    ended = refuse("--nonsense", 3)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "Error: No such option: --nonsense"


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
    lines = [json.loads(line) for line in service.log_lines()]
    assert any(line.get("request_id") == "find-me" for line in lines)
