"""SegFormer with the names of NVlabs has the logits of transformers."""

import re

import pytest
import torch
import transformers
from safetensors.torch import load_file

from models import checkpoint
from models.checkpoint import preprocessor_config
from models.errors import CheckpointError

STAGES = (  # names in transformers and at NVlabs, which counts from 1
    ("segformer.encoder.patch_embeddings.", "patch_embed"),
    ("segformer.encoder.layer_norm.", "norm"),
    ("segformer.encoder.block.", "block"),
    ("decode_head.linear_c.", "decode_head.linear_c"),
)
PARTS = (
    ("attention.self.query", "attn.q"),
    ("attention.self.key", "attn.k"),
    ("attention.self.value", "attn.v"),
    ("attention.self.sr", "attn.sr"),
    ("attention.self.layer_norm", "attn.norm"),
    ("attention.output.dense", "attn.proj"),
    ("layer_norm_", "norm"),
    ("layer_norm", "norm"),
    ("mlp.dense", "mlp.fc"),
    ("linear_fuse.weight", "linear_fuse.conv.weight"),
    ("batch_norm", "linear_fuse.bn"),
    ("classifier", "linear_pred"),
)
EPSILON = re.compile(r"layernorm_(before|after)$|stages\.\d\.layer_norm$")  # 1e-6 at NVlabs
SIZES = ((64, 96), (131, 253), (33, 47))


def renamed(name):
    for theirs, nvlabs in STAGES:
        if name.startswith(theirs):
            stage, dot, rest = name.removeprefix(theirs).partition(".")
            name = f"{nvlabs}{int(stage) + 1}{dot}{rest}"
    for theirs, nvlabs in PARTS:
        name = name.replace(theirs, nvlabs)
    return name


def with_names_of_nvlabs(stored):
    tensors = {renamed(name): tensor for name, tensor in stored.items()}
    for name in [name for name in tensors if ".attn.k." in name]:
        pair = tensors.pop(name), tensors.pop(name.replace(".k.", ".v."))
        tensors[name.replace(".k.", ".kv.")] = torch.cat(pair)
    unused = {"decode_head.conv_seg.weight": torch.ones(7, 256, 1, 1)}
    return tensors | unused | {"decode_head.conv_seg.bias": torch.ones(7)}


@pytest.fixture(scope="module")
def reference():
    """A SegFormer-B0 of transformers with the epsilons of NVlabs."""
    config = transformers.SegformerConfig(num_labels=7)
    model = transformers.SegformerForSemanticSegmentation._from_config(config).eval()
    norms = [module for name, module in model.named_modules() if EPSILON.search(name)]
    assert len(norms) == 2 * 8 + 4
    for norm in norms:
        norm.eps = 1e-6
    return model


@pytest.fixture
def tensors(reference, perturb, tmp_path):
    """Its tensors by the names of NVlabs, without a prefix of the encoder."""
    perturb(reference)
    reference.save_pretrained(tmp_path / "reference")
    return with_names_of_nvlabs(load_file(tmp_path / "reference" / "model.safetensors"))


@pytest.fixture
def load(tmp_path):
    def write_and_load(tensors):
        torch.save(tensors, tmp_path / "segformer.pth")
        return checkpoint.load(tmp_path / "segformer.pth")

    return write_and_load


def prefixed(tensors):
    return {
        name if name.startswith("decode_head") else f"backbone.{name}": tensor
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("prefix", [prefixed, lambda tensors: tensors], ids=["backbone", "none"])
@torch.no_grad()
def test_the_logits_are_those_of_transformers(
    prefix, tensors, load, reference, assert_equal_logits
):
    loaded = load(prefix(tensors))
    for size in SIZES:
        pixels = torch.randn(2, 3, *size)
        assert_equal_logits(loaded.network(pixels), reference(pixels).logits)


def test_labels_and_preprocessing_are_assumed(tensors, load):
    loaded = load(prefixed(tensors))
    assert loaded.labels == tuple(f"LABEL_{n}" for n in range(7))
    assert loaded.preprocessing == preprocessor_config.parse({}, preprocessor_config.SEGFORMER)
    assert loaded.preprocessing_assumed
    assert "the defaults of SegformerImageProcessor are assumed" in loaded.warnings[0]
    assert not loaded.network.config.aligned_upsampling


@torch.no_grad()
def test_a_saved_copy_has_the_same_logits_here_and_in_transformers(
    tensors, load, reference, tmp_path, assert_equal_logits
):
    loaded = load(prefixed(tensors))
    checkpoint.save(loaded, tmp_path / "saved")
    again = checkpoint.load(tmp_path / "saved")
    assert again.network.config == loaded.network.config
    model = transformers.SegformerForSemanticSegmentation.from_pretrained(tmp_path / "saved").eval()
    pixels = torch.randn(1, 3, 131, 253)
    assert torch.equal(again.network(pixels), loaded.network(pixels))
    assert_equal_logits(model(pixels).logits, reference(pixels).logits)


def test_the_depths_follow_from_the_tensors(tensors, load):
    deeper = {
        name.replace("block3.1.", f"block3.{block}."): tensor
        for name, tensor in tensors.items()
        if name.startswith("block3.1.")
        for block in range(2, 6)
    }
    assert load(prefixed(tensors | deeper)).network.config.depths == (2, 2, 6, 2)


def test_names_with_and_without_the_prefix_do_not_mix(tensors, load):
    both = tensors | prefixed(tensors)
    with pytest.raises(CheckpointError, match=r"unexpected keys: backbone\.block1\.0"):
        load(both)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("decode_head.linear_pred.weight", None, "no tensor decode_head.linear_pred.weight"),
        ("decode_head.linear_pred.bias", None, r"missing keys: decode_head\.linear_pred\.bias"),
        ("decode_head.linear_c2.proj.weight", torch.ones(256), r"linear_c2\.proj\.weight is"),
        ("backbone.patch_embed1.proj.weight", None, "no tensor backbone.patch_embed1.proj.weight"),
        ("backbone.block1.1.norm1.bias", None, r"missing keys: backbone\.block1\.1\.norm1\.bias"),
        ("auxiliary_head.conv_seg.bias", torch.ones(3), "unexpected keys: auxiliary_head.conv_seg"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_their_stored_name(
    name, tensor, message, tensors, load
):
    changed = prefixed(tensors) | {name: tensor}
    with pytest.raises(CheckpointError, match=message):
        load({name: each for name, each in changed.items() if each is not None})


def test_the_later_mmsegmentation_is_refused_by_name(load):
    names = ("backbone.layers.0.0.projection.weight", "decode_head.convs.0.conv.weight")
    with pytest.raises(CheckpointError, match=r"mmsegmentation 0\.20 or later.*another network"):
        load({name: torch.ones(2) for name in names})
