import json
import shutil
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file, save_file

from models import checkpoint
from models.checkpoint import LoadOptions
from models.errors import CheckpointError
from models.preprocessing import IMAGENET_MEAN, IMAGENET_STD

CASES = ("vit", "vit-384", "squash", "wide", "deit", "deit-distilled", "deit3", "dinov2")
LABELS = ("label 0", "the second label", "label 2", "label 3", "label 4")


@pytest.fixture
def folder(originals, tmp_path):
    """A copy of the plain ViT's folder."""
    return shutil.copytree(originals("timm_vit") / "vit", tmp_path / "vit")


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def pretrained(folder, **fields):
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    change(folder, pretrained_cfg=config | fields)


@pytest.mark.parametrize("case", CASES)
def test_a_folder_of_timm_gives_its_pixels_and_logits(case, originals, assert_equal):
    folder = originals("timm_vit") / case
    loaded = checkpoint.load(folder)
    assert_equal(loaded, folder)
    assert loaded.labels == LABELS
    assert not loaded.preprocessing_assumed
    assert not loaded.warnings


def test_a_file_of_timm_is_known_by_its_names(originals, assert_equal):
    folder = originals("timm_vit") / "file"
    loaded = checkpoint.load(folder / "model.pth")
    assert_equal(loaded, folder)
    assert loaded.name == "model"
    assert loaded.labels == tuple(f"LABEL_{n}" for n in range(5))
    assert loaded.preprocessing_assumed
    assert "assumed" in loaded.warnings[0]


@pytest.mark.parametrize("case", CASES)
def test_a_saved_copy_is_a_folder_of_transformers(case, originals, tmp_path, assert_equal):
    loaded = checkpoint.load(originals("timm_vit") / case)
    checkpoint.save(loaded, tmp_path / "saved")
    again = checkpoint.load(tmp_path / "saved")
    assert again.preprocessing == loaded.preprocessing
    assert_equal(again, originals("timm_vit") / case)


@pytest.mark.parametrize("case", ["vit", "deit-distilled", "deit3"])
@torch.no_grad()
def test_transformers_computes_the_logits_of_a_saved_copy(
    case, originals, tmp_path, assert_equal_logits
):
    transformers = pytest.importorskip("transformers")
    folder = originals("timm_vit") / case
    checkpoint.save(checkpoint.load(folder), tmp_path / "saved")
    name = json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, name).from_pretrained(tmp_path / "saved").eval()
    expected = load_file(folder / "photo-0.expected")
    assert_equal_logits(model(expected["pixels"]).logits, expected["logits"])


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_clip_224",
        "vit_base_patch16_siglip_224",
        "vit_base_patch16_rope_224",
        "mae",
    ],
)
def test_another_family_of_timm_is_refused_by_name(folder, name):
    change(folder, architecture=name)
    with pytest.raises(CheckpointError, match=f"'{name}' of timm is not supported; supported are"):
        checkpoint.load(folder)


def test_a_network_without_a_class_token_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["cls_token"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="a ViT of timm has cls_token, but this checkpoint"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"act_layer": "relu"}, r"model_args has \['act_layer'\]"),
        ({"global_pool": "avg"}, "global_pool is 'avg'"),
        ({"num_heads": "3"}, "num_attention_heads is '3'"),
        ({"num_heads": 5}, "hidden_size 24 is not a multiple of 5 heads"),
    ],
)
def test_arguments_that_change_the_network_are_refused_by_name(folder, arguments, message):
    given = json.loads((folder / "config.json").read_text())["model_args"]
    change(folder, model_args=given | arguments)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize("values", [None, 1, [], {}, "x", [[]], {"x": []}, [1, 2, 3], True])
@pytest.mark.parametrize("field", ["model_args", "pretrained_cfg", "label_names", "global_pool"])
def test_a_field_of_any_other_type_is_refused_or_ignored(folder, field, values):
    change(folder, **{field: values})
    with suppress(CheckpointError):
        checkpoint.load(folder)


@pytest.mark.parametrize("values", [1, [], {}, "x", [[]], [1, 2], [3, 0, 0], [3, -1, 2], True])
@pytest.mark.parametrize("field", ["input_size", "crop_pct", "crop_mode", "interpolation", "std"])
def test_a_preprocessing_field_of_any_other_type_is_refused_or_ignored(folder, field, values):
    pretrained(folder, **{field: values})
    with suppress(CheckpointError):
        checkpoint.load(folder)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (0, 1, 2, 3), (1, 1, 0), (2, 2), (5, 5, 5, 5)])
@pytest.mark.parametrize(
    "name",
    ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.bias"],
)
def test_a_tensor_of_any_other_shape_is_refused(folder, name, shape):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: torch.zeros(shape)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


def test_unknown_parameters_are_refused_by_their_names(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["blocks.0.attn.q_norm.weight"] = torch.ones(8)
    del tensors["blocks.1.mlp.fc1.bias"]
    save_file(tensors, folder / "model.safetensors")
    message = (
        r"do not fit a ViT of timm: missing keys: blocks\.1\.mlp\.fc1\.bias; "
        r"unexpected keys: blocks\.0\.attn\.q_norm\.weight$"
    )
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_a_wrong_shape_has_its_stored_name(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["blocks.0.attn.qkv.weight"] = torch.ones(30, 24)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.attn\.qkv\.weight is \[10, 24\]"):
        checkpoint.load(folder)
    tensors["blocks.0.attn.qkv.weight"] = torch.ones(31, 24)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"is \[31, 24\], not 3 stacked tensors"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("blocks.0.ls1.gamma", torch.ones(23), r"layer_scale_1 is \[23\], which does not fit"),
        ("blocks.1.ls2.gamma", None, r"blocks\.1\.mlp\.contract\.weight has no layer scale"),
        ("pos_embed", torch.ones(1, 24, 24), "pos_embed has 23 patches, which no size"),
        ("pos_embed", torch.ones(25, 24), r"pos_embed is \[25, 24\], not a tensor of 3 axes"),
        ("pos_embed", torch.ones(1, 0, 24), r"pos_embed is \[1, 0, 24\], not a tensor"),
        ("pos_embed", torch.ones(1, 25, 24, dtype=torch.int8), "quantized weights"),
        ("pos_embed", torch.ones(2, 25, 24), r"pos_embed is \[\d, 26, 24\], not \[1, 26, 24\]"),
    ],
)
def test_tensors_of_deit_iii_that_do_not_fit_are_refused(
    originals, tmp_path, name, tensor, message
):
    folder = shutil.copytree(originals("timm_vit") / "deit3", tmp_path / "deit3")
    tensors = load_file(folder / "model.safetensors") | {name: tensor}
    kept = {name: each for name, each in tensors.items() if each is not None}
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_positions_that_fit_two_grids_are_refused(originals, tmp_path):
    folder = shutil.copytree(originals("timm_vit") / "dinov2", tmp_path / "dinov2")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"pos_embed": torch.ones(1, 25, 24)}, folder / "model.safetensors")
    change(folder, model_args={"img_size": [32, 48], "num_heads": 3})  # 4 x 6 and the class token
    with pytest.raises(CheckpointError, match=r"pos_embed has 25 positions.*48 x 32 pixels"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_mode": "border"}, "crop_mode is 'border'"),
        ({"crop_pct": 0}, None),
        ({"crop_pct": 1.5}, "crop_pct is 1.5"),
        ({"crop_pct": "all"}, "crop_pct is 'all'"),
        ({"interpolation": "random"}, "interpolation is 'random'"),
        ({"input_size": [1, 32, 32]}, r"input_size is \[1, 32, 32\]"),
        ({"mean": [0.5]}, r"image_mean is \[0.5\]"),
    ],
)
def test_preprocessing_that_is_not_supported_is_refused_by_name(folder, fields, message):
    pretrained(folder, **fields)
    if message is None:  # timm takes 0 as absent
        checkpoint.load(folder)
        return
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_a_size_of_the_name_without_known_heads_is_refused(folder):
    change(folder, architecture="vit_giant_patch14_224", model_args={})
    with pytest.raises(
        CheckpointError, match=r"the number of heads.*vit_giant_patch14_224.*--arch"
    ):
        checkpoint.load(folder)


def test_the_number_of_heads_of_a_file_may_follow_from_the_architecture(originals, tmp_path):
    stored = torch.load(originals("timm_vit") / "file" / "model.pth", weights_only=True)
    save_file(stored, tmp_path / "model.safetensors")
    loaded = checkpoint.load(
        tmp_path / "model.safetensors", LoadOptions(arch="vit_tiny_patch16_224")
    )
    assert loaded.network.config.num_heads == 3
    small = load_file(originals("timm_vit") / "vit" / "model.safetensors")
    save_file(small, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="--arch"):
        checkpoint.load(tmp_path / "model.safetensors")


def test_the_architecture_must_be_that_of_the_weights(originals, tmp_path):
    file = originals("timm_vit") / "file" / "model.pth"
    assert checkpoint.load(file, LoadOptions(arch="vit_tiny_patch16_224.augreg_in21k"))
    with pytest.raises(CheckpointError, match="has a width of 768, but the weights have 192"):
        checkpoint.load(file, LoadOptions(arch="vit_base_patch16_224"))
    assumed = checkpoint.load(file, LoadOptions(arch="deit_tiny_patch16_224")).preprocessing
    assert assumed.mean == IMAGENET_MEAN


def test_timms_defaults_replace_what_a_pretrained_cfg_leaves_out(folder):
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    left = {name: config[name] for name in ("input_size", "interpolation")}
    change(folder, pretrained_cfg=left)
    preprocessing = checkpoint.load(folder).preprocessing
    assert (preprocessing.mean, preprocessing.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert preprocessing.shortest_edge == 36  # 32 / 0.875


def test_a_fixed_input_size_is_that_of_the_positions(folder):
    pretrained(folder, input_size=[3, 64, 64], fixed_input_size=True)
    assert checkpoint.load(folder).preprocessing.crop_size == (32, 32)
    pretrained(folder, fixed_input_size=False)
    with pytest.raises(CheckpointError, match="input_size is 64 x 64, but the positions are those"):
        checkpoint.load(folder)


def test_a_config_of_an_old_timm_is_refused(folder):
    change(folder, mean=[0.5, 0.5, 0.5], pretrained_cfg=None)
    with pytest.raises(CheckpointError, match=r"has mean outside of pretrained_cfg.*current timm"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"crop_pct": 1e-320},
        {"crop_pct": 1e-5},
        {"input_size": [3, 10**400, 10**400]},
        {"input_size": [3, 32, 10**6]},
        {"mean": [10**400] * 3},
        {"std": [0, 0, 0]},
        {"std": [float("nan")] * 3},
    ],
)
def test_numbers_out_of_range_are_refused(folder, fields):
    pretrained(folder, **fields)
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


def test_labels_may_be_missing(folder):
    change(folder, label_names=None)
    assert checkpoint.load(folder).labels == tuple(f"LABEL_{n}" for n in range(5))


def gray_folder(folder):
    """Make a network for gray images, as timm does: with the sum of the filters' channels."""
    tensors = load_file(folder / "model.safetensors")
    weight = tensors["patch_embed.proj.weight"].sum(1, keepdim=True)
    save_file(tensors | {"patch_embed.proj.weight": weight}, folder / "model.safetensors")
    given = json.loads((folder / "config.json").read_text())["model_args"]
    change(folder, model_args=given | {"in_chans": 1})


@pytest.mark.parametrize("in_file", ["pretrained_cfg", "preprocessor_config.json"])
@torch.no_grad()
def test_a_network_for_gray_images_is_read_with_its_channels(folder, in_file, assert_equal_logits):
    gray = torch.randn(2, 1, 32, 32)
    expected = checkpoint.load(folder).network(gray.expand(-1, 3, -1, -1))
    gray_folder(folder)
    if in_file == "pretrained_cfg":
        pretrained(folder, input_size=[1, 32, 32], mean=[0.4], std=[0.3])
    else:
        document = {"image_mean": [0.4], "image_std": [0.3]}
        (folder / in_file).write_text(json.dumps(document))
    loaded = checkpoint.load(folder)
    assert loaded.network.config.num_channels == 1
    assert (loaded.preprocessing.mean, loaded.preprocessing.std) == ((0.4,), (0.3,))
    assert_equal_logits(loaded.network(gray), expected)


def test_a_network_for_gray_images_needs_a_mean_of_one_channel(folder):
    gray_folder(folder)
    pretrained(folder, mean=[0.4, 0.4, 0.4])
    with pytest.raises(CheckpointError, match=r"mean is \[0.4, 0.4, 0.4\], not one number"):
        checkpoint.load(folder)
    change(folder, pretrained_cfg=None)
    with pytest.raises(CheckpointError, match="num_channels 1: add a file with image_mean"):
        checkpoint.load(folder)
