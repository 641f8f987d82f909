"""Weights as training scripts save them load like plain ones; what is ambiguous is refused."""

import json
import logging
import re
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from models import checkpoint
from models.checkpoint.pickles import HOW_TO_SAVE
from models.checkpoint.state_dict import LEFTOVERS, PREFIXES
from models.errors import CheckpointError

PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
EMA = {"decay": 0.99, "shadow": [torch.ones(2)]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small ViT of transformers, its tensors and its logits."""
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        num_labels=3,
    )
    model = transformers.ViTForImageClassification(config).eval()
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    with torch.no_grad():
        return folder, load_file(folder / "model.safetensors"), model(PIXELS).logits


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the folder, in which the tests replace the weights."""
    return shutil.copytree(trained[0], tmp_path / "vit")


@pytest.fixture
def assert_loads(trained, folder, caplog, assert_equal_logits):
    """Check that the folder gives the logits of transformers, and that the log says a text."""

    @torch.no_grad()
    def check(text):
        with caplog.at_level(logging.INFO, "models"):
            loaded = checkpoint.load(folder)
        assert_equal_logits(loaded.network(PIXELS), trained[2])
        assert text in caplog.messages
        assert not any("read from" in warning for warning in loaded.warnings)

    return check


def assert_refused(path, message):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert str(caught.value) == message


def write(folder, tensors):
    save_file(tensors, folder / "model.safetensors")


def write_pickle(folder, content, **options):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin", **options)


@pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.", "model.net.", "model.model."])
def test_a_prefix_of_all_names_is_removed(prefix, trained, folder, assert_loads):
    write(folder, {f"{prefix}{key}": tensor for key, tensor in trained[1].items()})
    first = prefix.partition(".")[0]
    assert_loads(f"the prefix {first}. of all names of tensors is removed")


def test_a_prefix_of_some_names_is_an_error(trained, folder):
    tensors = {f"module.{key}": tensor for key, tensor in trained[1].items()}
    write(folder, tensors | {"classifier.bias": tensors.pop("module.classifier.bias")})
    with pytest.raises(CheckpointError, match=r"unexpected keys: module\.classifier\.weight"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "name", ["base_model.model.vit.layernorm.weight", "vit.x.lora_A.default.weight"]
)
def test_tensors_of_an_adapter_are_refused_with_what_to_do(name, folder):
    write(folder, {name: torch.ones(24)})
    assert_refused(
        folder,
        f"the weights ({name}) are a LoRA adapter: merge it first (merge_and_unload), "
        "and save the merged network",
    )


@pytest.mark.parametrize("table", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("zipped", [True, False])
def test_the_table_of_weights_of_a_training_is_read(table, zipped, trained, folder, assert_loads):
    layer = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    content = {
        table: {f"module.{key}": tensor for key, tensor in trained[1].items()},
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 12,
        "best": torch.tensor(0.9),
        "arch": "vit",
        "history": [0.1, None, True],
    }
    write_pickle(folder, content, _use_new_zipfile_serialization=zipped)
    assert_loads(f"pytorch_model.bin: the weights are read from its table {table}")


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"teacher": 1}, "teacher"),
        ({"state_dict_ema": 1}, "state_dict_ema"),
        ({"state_dict": 1, "state_dict_ema": 1}, "state_dict, state_dict_ema"),
        ({"student": 1, "teacher": 1, "epoch": 3}, "student, teacher"),
        ({"model": 1, "ema": EMA}, "model, ema"),
        ({"generator": 1}, "generator"),
    ],
)
def test_tables_of_another_meaning_are_refused_by_their_names(tables, named, trained, folder):
    content = {key: trained[1] if value == 1 else value for key, value in tables.items()}
    write_pickle(folder, content)
    assert_refused(
        folder,
        f"pytorch_model.bin has tables of tensors under {named}: "
        "save the one to serve in a file of its own",
    )


@pytest.mark.parametrize(
    "content",
    [
        {"model": {}},
        {"model": {"weights": {"a": torch.ones(1)}}},
        {"model": {0: torch.ones(1)}},
        {("model",): 3},
        {"epoch": 3},
    ],
)
def test_a_table_with_more_than_tensors_is_refused(content, folder):
    write_pickle(folder, content)
    key = next(iter(content))
    assert_refused(folder, f"pytorch_model.bin has entries that are not tensors: {key}")


def test_a_table_in_itself_is_refused(folder):
    content = {}
    content["model"] = content
    write_pickle(folder, content)
    assert_refused(folder, "pytorch_model.bin has entries that are not tensors: model")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_model_is_refused_with_the_reason_and_what_to_do(zipped, folder):
    write_pickle(folder, torch.nn.Linear(2, 3), _use_new_zipfile_serialization=zipped)
    assert_refused(
        folder,
        "pytorch_model.bin cannot be read: it contains torch.nn.modules.linear.Linear, not only "
        "tensors, and to read objects can run code; save the tensors alone: "
        'torch.save(model.state_dict(), "model.pth")',
    )


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused_with_the_reason_and_what_to_do(folder):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.ones(2)), folder / "model.pt")
    (folder / "model.safetensors").unlink()
    message = (
        "model.pt cannot be read: it is TorchScript, a program, which is never run; save its "
        'tensors alone: torch.save(torch.jit.load("model.pt").state_dict(), "model.pth")'
    )
    assert_refused(folder, message)
    assert_refused(folder / "model.pt", message)


def test_torchs_advice_to_read_all_objects_is_not_repeated(folder, monkeypatch):
    write_pickle(folder, torch.nn.Linear(2, 3))
    monkeypatch.setattr("models.checkpoint.weights.check_pickle", lambda path: None)
    assert_refused(
        folder,
        f"pytorch_model.bin cannot be read: it is damaged, or contains more than tensors; "
        f"{HOW_TO_SAVE}",
    )


@pytest.mark.parametrize(
    "name", ["SCB", "weight_format", "quant_state.bitsandbytes__nf4", "absmax", "qweight"]
)
def test_quantized_weights_are_refused_with_what_to_do(name, trained, folder):
    key = f"vit.encoder.layer.0.output.dense.{name}"
    write(folder, trained[1] | {key: torch.ones(24)})
    assert_refused(folder, f"quantized weights ({key}): save them unquantized")


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, " (bitsandbytes)"),
        ({"quant_method": ["a"]}, ""),
        ([3], ""),
    ],
)
def test_a_quantization_config_is_refused_with_what_to_do(config, named, folder):
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | {"quantization_config": config}))
    assert_refused(
        folder,
        f"config.json has a quantization_config: quantized weights{named}: save them unquantized",
    )
    (folder / "config.json").write_text(json.dumps(document | {"quantization_config": None}))
    checkpoint.load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "vit.embeddings.position_ids",
        "vit.embeddings.mask_token",
        "loss_fct.weight",
        "criterion.pos_weight",
        "vit.encoder.total_ops",
        "n_averaged",
    ],
)
def test_tensors_that_no_output_depends_on_are_dropped(name, trained, folder, assert_loads):
    reason = next(reason for pattern, reason in LEFTOVERS if pattern.fullmatch(name))
    write(folder, trained[1] | {name: torch.arange(3)})
    assert_loads(f"{name}: not used ({reason})")


def test_a_loss_beside_a_prefix_does_not_matter(trained, folder, assert_loads):
    tensors = {f"model.{key}": tensor for key, tensor in trained[1].items()}
    write(folder, tensors | {"loss_fct.weight": torch.ones(3)})
    assert_loads("the prefix model. of all names of tensors is removed")


@pytest.mark.parametrize("name", ["scale", "vit.embeddings.mask", "loss_fct.layer.weight"])
def test_any_other_tensor_is_an_error(name, trained, folder):
    write(folder, trained[1] | {name: torch.ones(3)})
    with pytest.raises(CheckpointError, match=rf"unexpected keys: {re.escape(name)}$"):
        checkpoint.load(folder)


def test_no_tensors_at_all_are_an_error(folder):
    write(folder, {})
    with pytest.raises(CheckpointError, match="missing keys"):
        checkpoint.load(folder)
