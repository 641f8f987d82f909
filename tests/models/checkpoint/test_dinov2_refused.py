"""Contents of files that are not those of a DINOv2."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from models import checkpoint
from models.checkpoint.dinov2 import read_tensors
from models.errors import CheckpointError


@pytest.fixture
def folder(tmp_path):
    """The folder of a small model with registers and SwiGLU."""
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        mlp_ratio=2,
        image_size=40,
        patch_size=8,
        num_register_tokens=2,
        use_swiglu_ffn=True,
    )
    transformers.Dinov2WithRegistersForImageClassification(config).save_pretrained(tmp_path)
    return tmp_path


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mlp_ratio": 2.5}, r"mlp_ratio is 2\.5, not a positive integer"),
        ({"mlp_ratio": None}, "mlp_ratio is None, not a positive integer"),
        ({"mlp_ratio": True}, "mlp_ratio is True"),
        ({"mlp_ratio": 10**9}, "mlp_ratio is 1000000000"),
        ({"mlp_ratio": 10**6}, "intermediate_size is 16000000, not an integer"),
        ({"hidden_size": {}}, r"hidden_size is \{\}, not a positive integer"),
        ({"use_swiglu_ffn": [1]}, r"use_swiglu_ffn is \[1\], not true or false"),
        ({"num_register_tokens": 0}, "num_register_tokens is 0, not an integer from 1"),
        ({"num_register_tokens": 3}, r"register_tokens is \[1, 2, 24\], not \[1, 3, 24\]"),
        ({"mlp_ratio": 3}, r"mlp\.weights_in\.weight is \[64, 24\], not \[96, 24\]"),
        ({"use_swiglu_ffn": False}, r"missing keys: .*mlp\.fc1\.weight.*weights_in"),
    ],
)
def test_a_wrong_value_of_config_json_is_refused_by_its_name(folder, fields, message):
    change(folder, **fields)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


LAYER = "dinov2_with_registers.encoder.layer.0"


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("layer_scale1.lambda1", None, r"output\.dense\.weight has no layer scale .*scale1"),
        ("layer_scale2.lambda1", torch.ones(23), r"lambda1 is \[23\], which does not fit .*\[24"),
        ("layer_scale2.lambda1", torch.ones(1, 24), r"is \[1, 24\], which does not fit"),
        ("layer_scale2.lambda1", torch.tensor(1.0), r"is \[\], which does not fit"),
        ("layer_scale1.lambda1", torch.ones(24, dtype=torch.int8), "quantized weights"),
        ("attention.output.dense.weight", torch.ones(24, 24, dtype=torch.int8), "quantized"),
        ("attention.output.dense.weight", torch.tensor(1.0), "which does not fit"),
        ("attention.output.dense.weight", torch.ones(24, 0), r"is \[24, 0\], not \[24, 24\]"),
        ("attention.output.dense.weight", None, r"missing keys: .*unexpected keys: .*scale1"),
        ("mlp.gate_proj.weight", torch.ones(32, 24), "the same layer, stored twice"),
        ("mlp.up_proj.weight", torch.ones(32, 24), r"unexpected keys: .*mlp\.up_proj\.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(folder, name, tensor, message):
    tensors = load_file(folder / "model.safetensors")
    tensors[f"{LAYER}.{name}"] = tensor
    kept = {name: each for name, each in tensors.items() if each is not None}
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("up", "message"),
    [
        (torch.ones(31, 24), r"up_proj\.weight is \[31, 24\].*does not fit.*\[32, 24\]"),
        (torch.ones(32, 24, dtype=torch.float16), r"of torch\.float16, which does not fit"),
        (torch.ones(1).expand(32, 24), r"is \[32, 24\], but its file has only 4 bytes for it"),
    ],
)
def test_halves_of_swiglu_that_do_not_fit_are_refused(up, message):
    gate = torch.ones(32, 24)
    with pytest.raises(CheckpointError, match=message):
        read_tensors({"a.mlp.gate_proj.weight": gate, "a.mlp.up_proj.weight": up})


def test_gates_without_values_are_refused():
    with pytest.raises(CheckpointError, match=r"no tensor a\.mlp\.up_proj\.bias"):
        read_tensors({"a.mlp.gate_proj.bias": torch.ones(8)})
