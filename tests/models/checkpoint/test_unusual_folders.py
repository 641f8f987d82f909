"""Folders that are not a usual checkpoint: what can be read is read, and the rest is explained."""

import logging
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from models import checkpoint
from models.errors import CheckpointError

NO_CONFIG = "config.json cannot be read: no such file in {folder}"
NO_WEIGHTS = (
    "no weights found in {folder}: looked for model.safetensors, model.safetensors.index.json, "
    "pytorch_model.bin, pytorch_model.bin.index.json"
)
TRAINER = "; it has checkpoints of a training: pass the folder of the newest, {folder}/"
CONVERT = "transformers 4 converts them: Class.from_pretrained(folder, from_{}=True)"
CONVERT += ".save_pretrained(new)"


@pytest.fixture
def folder(tmp_path):
    """A copy of the bundled classifier."""
    return shutil.copytree(checkpoint.bundled("classify"), tmp_path / "vit")


def assert_refused(path, message):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert str(caught.value) == message


def fill(folder, *names):
    """Make empty files of these names in the folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def move(folder, name):
    """Rename the weights, or write them as a pickle."""
    weights = folder / "model.safetensors"
    if name.endswith(".safetensors"):
        weights.rename(folder / name)
    else:
        torch.save(load_file(weights), folder / name)
        weights.unlink()


@pytest.mark.parametrize(
    "name", ["model.fp16.safetensors", "best.safetensors", "best_model.pth", "a.pt", "last.ckpt"]
)
def test_the_only_file_of_weights_may_have_any_name(name, folder, caplog):
    move(folder, name)
    fill(folder, "training_args.bin", "optimizer.pt", "rng_state_0.pth", "README.md")
    with caplog.at_level(logging.INFO, "models"):
        assert len(checkpoint.load(folder).labels) == 6
    assert f"the weights are read from {name}, the only file of weights" in caplog.messages


def test_the_usual_name_is_read_if_there_are_others(folder, caplog):
    fill(folder, "model.fp16.safetensors", "best_model.pth")
    with caplog.at_level(logging.INFO, "models"):
        checkpoint.load(folder)
    assert not caplog.messages


def test_several_files_of_other_names_are_listed(folder):
    move(folder, "model.fp16.safetensors")
    fill(folder, "best_model.pth")
    assert_refused(
        folder,
        f"{folder} has several files of weights: best_model.pth, model.fp16.safetensors; rename "
        "the one to serve to model.safetensors, or to pytorch_model.bin if torch.save wrote it",
    )


def test_shards_without_an_index_are_listed(folder):
    move(folder, "model-00001-of-00002.safetensors")
    fill(folder, "model-00002-of-00002.safetensors")
    assert_refused(
        folder,
        f"{folder} has shards without their index: "
        "model-00001-of-00002.safetensors, model-00002-of-00002.safetensors",
    )


def test_a_pipe_of_another_name_is_not_opened(folder):
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "best_model.pth")
    assert_refused(folder, "best_model.pth cannot be read: it is not a regular file")


def test_a_folder_named_like_weights_is_not_a_file_of_weights(folder):
    (folder / "model.safetensors").unlink()
    (folder / "weights.pt").mkdir()
    assert_refused(folder, NO_WEIGHTS.format(folder=folder))


@pytest.mark.parametrize("complete", [True, False])
def test_a_lora_adapter_is_refused_with_what_to_do(complete, folder, tmp_path):
    path = folder if complete else tmp_path
    fill(path, "adapter_config.json", "adapter_model.safetensors")
    assert_refused(
        path,
        f"{path} has an adapter_config.json: it is a LoRA adapter: merge it first "
        "(merge_and_unload), and save the merged network",
    )


@pytest.mark.parametrize(
    ("names", "instead"),
    [
        ((), ""),
        (("notes.txt",), ""),
        (
            ("checkpoint-500/config.json", "checkpoint-1500/a", "checkpoint-best/a"),
            TRAINER + "checkpoint-1500",
        ),
        (
            ("model.onnx", "notes.txt"),
            "; it has only weights of ONNX (model.onnx): "
            "serve the PyTorch network that they were exported from",
        ),
        (
            ("onnx/model.onnx", "onnx/model_fp16.onnx"),
            "; it has only weights of ONNX (onnx/model.onnx, onnx/model_fp16.onnx): "
            "serve the PyTorch network that they were exported from",
        ),
        (
            ("tf_model.h5",),
            f"; it has only weights of TensorFlow (tf_model.h5): {CONVERT.format('tf')}",
        ),
        (
            ("flax_model.msgpack",),
            f"; it has only weights of Flax (flax_model.msgpack): {CONVERT.format('flax')}",
        ),
    ],
)
def test_the_error_says_what_is_there_instead(names, instead, folder, tmp_path):
    (folder / "model.safetensors").unlink()
    fill(folder, *names)
    assert_refused(folder, (NO_WEIGHTS + instead).format(folder=folder))
    (folder / "config.json").unlink()
    assert_refused(folder, (NO_CONFIG + instead).format(folder=folder))


def test_weights_without_a_config_are_named(folder):
    (folder / "config.json").unlink()
    assert_refused(
        folder,
        f"{NO_CONFIG.format(folder=folder)}; it has weights (model.safetensors): put the "
        "config.json of their network beside them, or pass the file itself if another library "
        "wrote it",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "model.onnx",
            "model.onnx has weights of ONNX, not of PyTorch: "
            "serve the PyTorch network that they were exported from",
        ),
        (
            "tf_model.h5",
            f"tf_model.h5 has weights of TensorFlow, not of PyTorch: {CONVERT.format('tf')}",
        ),
        ("config.json", "config.json is not a file of weights: pass its folder"),
    ],
)
def test_a_file_that_is_not_weights_of_pytorch_is_refused_by_its_format(name, message, tmp_path):
    fill(tmp_path, name)
    assert_refused(tmp_path / name, message)
