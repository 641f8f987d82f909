"""Start of the real process: the port opens before the models are ready; errors take one line."""

import json
import os
import resource
import shutil
import subprocess

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


@pytest.mark.parametrize(
    ("make", "workers"),
    [
        (nothing, 1),
        pytest.param(truncated, 2, marks=pytest.mark.slow),
        pytest.param(truncated, 1, marks=pytest.mark.slow),
        pytest.param(of_another_kind, 1, marks=pytest.mark.slow),
        pytest.param(unreadable, 1, marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_that_cannot_be_loaded_ends_the_process_with_3_and_one_line(
    refuse, tmp_path, make, workers
):
    make(tmp_path / "odd")
    flags = ("--classifier", tmp_path / "odd", "--segmenter", "none", "--workers", workers)
    ended = refuse(*flags, "--port", 0)
    assert ended.returncode == 3
    assert ended.stderr.count("patchserve: ") == 1
    assert ended.stderr.splitlines()[-1].startswith("patchserve: cannot load: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="memory cannot be limited")
def test_too_little_memory_ends_the_process_with_3_and_one_line(serve_command):
    def limit():
        # enough to import torch, too little for the models; torch itself crashes above 800 MB
        resource.setrlimit(resource.RLIMIT_AS, (760_000_000, 760_000_000))

    command, environment = serve_command("--port", 0)
    ended = subprocess.run(
        command, env=environment, preexec_fn=limit, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 3
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("patchserve: cannot load: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow  # tests/app/engine/test_engine.py checks the task, and `nothing` the one line
def test_a_checkpoint_for_the_other_task_is_refused(refuse):
    ended = refuse("--classifier", bundled("segment"), "--segmenter", "none", "--port", 0)
    assert ended.returncode == 3
    assert "not to classify" in ended.stderr


@pytest.mark.slow  # tests/app/cli/test_serve.py runs the command in one process
@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        (["--device", "cuda:63"], {}, "cuda:63"),
        ([], {"PATCHSERVE_MAX_BATCHSIZE": "4"}, "PATCHSERVE_MAX_BATCHSIZE"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(refuse, flags, environment, expected):
    ended = refuse(*flags, **environment)
    assert ended.returncode == 2
    assert expected in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_the_port_is_open_while_the_models_load(launch):
    with launch(ready=False) as service:
        service.wait_for_status("/livez", 200)
        early = service.get("/startupz")
        assert early.status_code in (200, 503)
        assert set(early.json()["models"]) == {"shapes-vit", "shapes-segformer"}
        service.wait_for_status("/startupz", 200)
        assert service.get("/readyz").status_code == 200


def test_a_file_names_the_labels_of_a_folder_without_labels(launch, small, refuse, tmp_path):
    flag, folder, *others = small
    shutil.copytree(folder, tmp_path / "unlabeled")
    path = tmp_path / "unlabeled" / "config.json"
    document = json.loads(path.read_text())
    del document["id2label"], document["label2id"]
    path.write_text(json.dumps(document))
    (tmp_path / "mine.txt").write_text("cat\ndog\nneither\n")
    flags = (flag, tmp_path / "unlabeled", *others)
    with launch(*flags, "--classifier-labels", tmp_path / "mine.txt", "--strict") as service:
        model = service.get("/models/unlabeled").json()
        assert (model["labels"], model["assumptions"]) == (["cat", "dog", "neither"], [])
    with launch(*flags) as service:
        model = service.get("/models/unlabeled").json()
        assert model["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
        (assumed,) = model["assumptions"]
        assert "because no file names them" in assumed
        assert f"unlabeled: {assumed}" in [one["message"] for one in service.complaints()]
    ended = refuse(*flags, "--strict", "--port", 0)
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1].startswith(
        "patchserve: cannot load: unlabeled leaves open what strict loading does not assume: (1) "
    )
