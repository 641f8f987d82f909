"""The verdict on every kind of folder that the tests make: the same as at a start of the service.

The parameters of the tests of config.json, preprocessor_config.json, the weights and the hostile
checkpoints are read from these tests, so that new ones are checked here, too.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from app.engine.check import Trial, try_checkpoint
from models.checkpoint import Checkpoint, CheckpointError, bundled, preprocessor_config, save
from models.preprocessing import Preprocessing
from models.registry import ARCHITECTURES
from models.vit import ViT, ViTConfig
from tests.integration import test_hostile_checkpoints as hostile
from tests.models.checkpoint import test_checkpoint as whole
from tests.models.checkpoint import test_config as config
from tests.models.checkpoint import test_preprocessor_config as preprocessor

PATCHES = "vit.embeddings.patch_embeddings.projection"
SIZES = {"hidden_size": 24, "num_layers": 1, "num_heads": 3, "mlp_size": 32, "patch_size": 8}


def attempt(source) -> Trial:
    return try_checkpoint(source, device="cpu", dtype="float32", runtime="torch")


def cases(test) -> list[tuple]:
    """The parameters of another test."""
    (mark,) = (mark for mark in test.pytestmark if mark.name == "parametrize")
    return mark.args[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    network = ViT(ViTConfig(image_size=(32, 32), num_labels=3, **SIZES))
    preprocessing = Preprocessing(size=(32, 32))
    save(Checkpoint(network, ("a", "b", "c"), preprocessing, "classify"), tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("architecture", whole.ARCHITECTURES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_folders_of_transformers_can_be_served(architecture, dtype, tmp_path):
    model = whole.small(architecture).to(dtype)
    model.save_pretrained(tmp_path / "theirs")
    trial = attempt(tmp_path / "theirs")
    assert (trial.name, trial.architecture) == ("theirs", architecture.__name__)
    assert trial.info.labels == ("circle", "square", "star")
    assert trial.info.parameters == sum(p.numel() for p in model.parameters())
    assert trial.stored_dtypes == (str(dtype).removeprefix("torch."),)
    assert trial.info.preprocessing_assumed
    assert "there is no preprocessor_config.json" in trial.warnings[0]


def test_a_state_dict_can_be_served(folder):
    weights = folder / "model.safetensors"
    torch.save(whole.load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    assert attempt(folder).warnings == ()


@pytest.mark.parametrize(
    "preprocessing", cases(preprocessor.test_a_document_is_read_back_as_it_was_written)
)
def test_every_preprocessing_can_be_served(preprocessing, folder):
    document = preprocessor_config.document(preprocessing)
    (folder / "preprocessor_config.json").write_text(json.dumps(document))
    trial = attempt(folder)
    assert trial.info.preprocessing == preprocessing
    assert trial.input_size == (preprocessing.input_size or (512, 512))
    assert not trial.info.preprocessing_assumed
    assert "so its positions are resampled" in trial.warnings[0]


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_the_bundled_checkpoints_can_be_served(task):
    trial = attempt(bundled(task))
    assert trial.info.task == task
    assert trial.warnings == ()
    assert trial.forward_s > 0
    assert trial.architecture in {each.name for each in ARCHITECTURES}


def refused(source, message):
    with pytest.raises(CheckpointError, match=message):
        attempt(source)


@pytest.mark.parametrize(
    ("spoil", "message"), [pytest.param(*case, id=str(n)) for n, case in enumerate(hostile.CASES)]
)
def test_hostile_folders_cannot_be_served(spoil, message, tmp_path):
    shutil.copytree(bundled("classify"), tmp_path / "odd")
    spoil(tmp_path / "odd")
    refused(tmp_path / "odd", re.escape(message))


@pytest.mark.parametrize(
    ("document", "message"), cases(config.test_the_error_names_the_invalid_value)
)
def test_an_invalid_config_cannot_be_served(document, message, folder):
    (folder / "config.json").write_text(json.dumps(document))
    refused(folder, message)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        *cases(preprocessor.test_the_error_names_the_invalid_value),
        *cases(preprocessor.test_values_beyond_the_limits_are_refused_by_name),
    ],
)
def test_an_invalid_preprocessing_cannot_be_served(document, message, folder):
    (folder / "preprocessor_config.json").write_text(json.dumps(document))
    refused(folder, f"^preprocessor_config.json: .*{message}")


def without(name):
    return lambda folder: (folder / name).unlink()


def with_content(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def with_config(**fields):
    return lambda folder: whole.change(folder / "config.json", **fields)


def quantized(folder):
    name = "vit.layernorm.weight"
    whole.change_tensors(
        folder / "model.safetensors", lambda tensors: tensors | {name: tensors[name].char()}
    )


def pickled(content):
    def write(folder):
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin")

    return write


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), "config.json cannot be read: no such file"),
        (without("model.safetensors"), "no weights found"),
        (with_content("config.json", b"[]"), "config.json is not a JSON object"),
        (with_content("model.safetensors", b""), "model.safetensors cannot be read"),
        (
            with_content("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
            "run git lfs pull",
        ),
        (
            with_content("model.safetensors.index.json", b"{}"),
            None,  # is not used beside a whole file
        ),
        (with_config(num_hidden_layers=2), "missing keys"),
        (with_config(intermediate_size=40), "tensor shapes do not match"),
        (with_config(hidden_act="softsign"), "unknown activation"),
        (with_config(architectures=["ViTModel"]), "'ViTModel' .* is not supported"),
        (with_config(architectures=["ResNetForImageClassification"]), "is not supported"),
        (quantized, "quantized weights are not supported"),
        (pickled([torch.ones(1)]), "is not a state dict"),
        (pickled({"epoch": 3}), "entries that are not tensors"),
        (pickled({"teacher": {"a": torch.ones(1)}}), "tables of tensors under teacher"),
        (pickled({"a": torch.ones(1)}), "a bare backbone cannot be served"),
    ],
)
def test_a_damaged_or_foreign_folder_cannot_be_served(spoil, message, folder):
    spoil(folder)
    if message is None:
        assert attempt(folder).warnings == ()
    else:
        refused(folder, message)


def test_values_beyond_half_precision_are_found_by_the_forward_pass(folder):
    whole.change_tensors(
        folder / "model.safetensors",
        lambda tensors: tensors | {f"{PATCHES}.bias": torch.full((24,), 1e6)},
    )
    assert attempt(folder).info.dtype == "float32"
    with pytest.raises(CheckpointError, match="not finite in float16; --dtype float32 may help"):
        try_checkpoint(folder, device="cpu", dtype="float16", runtime="torch")
