"""SegFormer of segmentation-models-pytorch has the pixels, logits and masks of its library."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate

from models import checkpoint
from models.checkpoint import LoadOptions
from models.errors import CheckpointError
from models.label_map import label_map
from models.training.fitting.initialize import from_checkpoint

HEAD = "segmentation_head.0.weight"


@pytest.fixture
def folder(originals, tmp_path):
    """A copy of a folder of the library."""
    return shutil.copytree(originals("smp_segformer") / "b0", tmp_path / "b0")


def change(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_tensors(folder, **tensors):
    path = folder / "model.safetensors"
    stored = load_file(path) | tensors
    save_file({name: each for name, each in stored.items() if each is not None}, path)


@pytest.mark.parametrize("case", ["b0", "b2"])
def test_a_folder_gives_the_pixels_and_logits_of_the_library(case, originals, assert_equal):
    folder = originals("smp_segformer") / case
    loaded = checkpoint.load(folder)
    assert_equal(loaded, folder)
    assert loaded.task == "segment"
    assert loaded.labels == tuple(f"LABEL_{n}" for n in range(len(loaded.labels)))
    assert loaded.preprocessing_assumed
    assert loaded.preprocessing.input_size == (512, 512)
    assert "the defaults of SegformerImageProcessor are assumed" in loaded.warnings[0]


def test_a_file_of_weights_gives_the_pixels_and_logits_of_the_library(
    originals, tmp_path, assert_equal
):
    folder = originals("smp_segformer") / "b0"
    file = shutil.copy(folder / "weights.pth", tmp_path)
    assert_equal(checkpoint.load(file), folder)
    with pytest.raises(CheckpointError, match=r"weights\.pth lies beside a config\.json"):
        checkpoint.load(folder / "weights.pth")
    with pytest.raises(CheckpointError, match="leave out the architecture 'mit_b0'"):
        checkpoint.load(file, LoadOptions(arch="mit_b0"))


def expected_of(folder):
    for path in sorted(folder.glob("*.expected")):
        yield load_file(path)


@torch.no_grad()
def test_a_mask_of_the_size_of_the_input_is_the_argmax_of_the_library(originals):
    folder = originals("smp_segformer") / "b0"
    network = checkpoint.load(folder).network
    for expected in expected_of(folder):
        logits = expected["logits"][0]
        mask = label_map(network(expected["pixels"])[0], (512, 512))
        best = logits.topk(2, dim=0).values
        certain = best[0] - best[1] > 1e-5  # others are equal up to rounding
        assert (~certain).sum() <= 20
        assert torch.equal(mask.long()[certain], logits.argmax(0)[certain])


@torch.no_grad()
def test_a_single_class_becomes_a_mask_with_a_background(originals):
    folder = originals("smp_segformer") / "binary"
    loaded = checkpoint.load(folder)
    assert loaded.labels == ("background", "LABEL_0")
    for expected in expected_of(folder):
        logits = expected["logits"][0, 0]
        mask = loaded.network(expected["pixels"])[0].argmax(0)
        certain = logits.abs() > 1e-5
        assert torch.equal(mask[certain], (logits.sigmoid() > 0.5).long()[certain])


def test_a_saved_copy_computes_the_same(originals, tmp_path, assert_equal):
    folder = originals("smp_segformer") / "b0"
    loaded = checkpoint.load(folder)
    checkpoint.save(loaded, tmp_path / "saved")
    again = checkpoint.load(tmp_path / "saved")
    assert again.network.config == loaded.network.config
    assert_equal(again, folder)


def test_training_keeps_the_upsampling(originals):
    loaded = checkpoint.load(originals("smp_segformer") / "b0")
    start = from_checkpoint(loaded, "segment", ("a", "b", "c"), image_size=64)
    assert start.network.config.aligned_upsampling
    assert start.fresh == {"decoder.head.weight", "decoder.head.bias"}
    assert start.network(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64, 64)


@torch.no_grad()
def test_transformers_computes_the_logits_of_a_saved_copy_before_the_upsampling(
    originals, tmp_path, assert_equal_logits
):
    transformers = pytest.importorskip("transformers")
    folder = originals("smp_segformer") / "b0"
    checkpoint.save(checkpoint.load(folder), tmp_path / "saved")
    model = transformers.SegformerForSemanticSegmentation.from_pretrained(tmp_path / "saved").eval()
    for expected in expected_of(folder):
        logits = model(expected["pixels"]).logits
        aligned = interpolate(logits, (512, 512), mode="bilinear", align_corners=True)
        assert_equal_logits(aligned, expected["logits"])


def test_the_shapes_of_the_tensors_decide_not_the_name_of_the_encoder(folder, assert_equal):
    change(folder, encoder_name="mit_b5", classes=7, decoder_segmentation_channels=1)
    assert_equal(checkpoint.load(folder), folder)


@pytest.mark.parametrize("name", ["softmax2d", "sigmoid", "tanh"])
def test_an_activation_that_keeps_the_order_of_the_classes_is_accepted(folder, name, assert_equal):
    change(folder, activation=name)
    assert_equal(checkpoint.load(folder), folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"_model_class": "Unet"}, "_model_class is 'Unet'.*supported values are 'Segformer'"),
        ({"_model_class": ["Segformer"]}, r"_model_class is \['Segformer'\]"),
        ({"upsampling": 2}, "upsampling is 2.*supported values are 4"),
        ({"encoder_depth": 4}, "encoder_depth is 4"),
        ({"activation": "clamp"}, "activation is 'clamp'.*None, 'identity', 'sigmoid'"),
        ({"aux_params": {"classes": 2}}, "aux_params is {'classes': 2}"),
    ],
)
def test_other_settings_are_refused_by_name(folder, fields, message):
    change(folder, **fields)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("case", "message"), [("unet", "_model_class is 'Unet'"), ("resnet", "encoder 'resnet18'")]
)
def test_other_networks_of_the_library_are_refused_by_name(case, message, originals):
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(originals("smp_segformer") / case)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (HEAD, None, f"which have {HEAD}"),
        (HEAD, torch.ones(5), r"\[5\], not a tensor of 4 axes"),
        (HEAD, torch.ones(5, 255, 1, 1), rf"{HEAD} is \[5, 255, 1, 1\]"),
        (HEAD, torch.ones(0, 256, 1, 1), "not a tensor of 4 axes with values"),
        ("encoder.patch_embed1.proj.weight", torch.ones(32, 4, 7, 7), "num_channels 4"),
        ("encoder.patch_embed2.proj.weight", torch.ones(96, 32, 3, 3), r"\[32, 96, 160, 256\]"),
        ("encoder.block1.0.attn.kv.weight", torch.ones(33, 32), r"\[33, 32\], not 2 stacked"),
        ("encoder.block1.0.attn.kv.weight", torch.ones(()), r"is \[\], not 2 stacked"),
        ("encoder.block1.0.attn.kv.weight", torch.ones(0, 32), r"kv.weight is \[0, 32\]"),
        ("encoder.block1.0.attn.sr.weight", torch.ones(32, 32, 8, 7), r"sr.weight is .*8, 7\]"),
        ("encoder.block1.0.attn.sr.weight", torch.ones(32, 32), "not a tensor of 4 axes"),
        (
            "encoder.block2.1.mlp.fc1.bias",
            None,
            r"missing keys: encoder\.block2\.1\.mlp\.fc1\.bias",
        ),
        ("encoder.block3.0.mlp.fc1.weight", torch.ones(8, 160), "mlp_ratios"),
        ("encoder.norm5.weight", torch.ones(8), r"unexpected keys: encoder\.norm5\.weight"),
        ("decoder.fuse_stage.0.weight", torch.ones(256), "not a tensor of 4 axes"),
        ("decoder.fuse_stage.1.running_var", torch.ones(3), r"running_var is \[3\]"),
        ("decoder.mlp_stage.3.linear.bias", torch.ones(3), r"mlp_stage\.3\.linear\.bias is \[3\]"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_their_stored_name(folder, name, tensor, message):
    change_tensors(folder, **{name: tensor})
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)
