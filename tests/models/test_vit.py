from dataclasses import replace

import pytest
import torch
import transformers
from torch import nn

from models import checkpoint
from models.vit import ViT, ViTConfig

SMALL = ViTConfig(
    image_size=(32, 48),
    patch_size=8,
    hidden_size=24,
    num_layers=2,
    num_heads=3,
    mlp_size=40,
    num_labels=5,
)
TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
SIZES = {
    "Ti": TINY,
    "S": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    "B": {},
}
LITTLE = TINY | {"num_hidden_layers": 2, "image_size": 64}
OTHER_SIZES = [(64, 64), (64, 96), (96, 64), (70, 75), (128, 32), (16, 16)]


def reference(architecture, **options):
    config = architecture.config_class(
        id2label={i: f"label {i}" for i in range(options.pop("labels", 10))}, **options
    )
    return architecture._from_config(config).eval()


@torch.no_grad()
def logits_of_both(model, folder, pixels):
    model.save_pretrained(folder)
    ours = checkpoint.load(folder).network(pixels)
    return ours, model(pixels, interpolate_pos_encoding=True).logits


@pytest.mark.timeout(600)  # minutes on a busy machine
@pytest.mark.parametrize(
    "size",
    ["Ti", pytest.param("S", marks=pytest.mark.slow), pytest.param("B", marks=pytest.mark.slow)],
)
def test_a_vit_of_each_size_has_the_logits_of_the_reference(
    size, tmp_path, perturb, assert_equal_logits
):
    model = reference(transformers.ViTForImageClassification, labels=1000, **SIZES[size])
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(2, 3, 224, 224)))


@pytest.mark.parametrize("size", OTHER_SIZES)
def test_another_input_size_resamples_the_positions_as_the_reference_does(
    size, tmp_path, perturb, assert_equal_logits
):
    model = reference(transformers.ViTForImageClassification, **LITTLE)
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(2, 3, *size)))


@pytest.mark.parametrize("size", [(64, 64), (80, 112)])
@pytest.mark.parametrize(
    "architecture",
    [
        transformers.DeiTForImageClassification,
        transformers.DeiTForImageClassificationWithTeacher,
    ],
)
def test_a_distilled_deit_has_the_logits_of_the_reference(
    architecture, size, tmp_path, perturb, assert_equal_logits
):
    model = reference(architecture, **LITTLE)
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(2, 3, *size)))


@pytest.mark.slow
@pytest.mark.timeout(600)  # minutes on a busy machine
@pytest.mark.parametrize(
    "architecture",
    [
        transformers.DeiTForImageClassification,
        transformers.DeiTForImageClassificationWithTeacher,
    ],
)
def test_a_whole_deit_base_has_the_logits_of_the_reference(
    architecture, tmp_path, perturb, assert_equal_logits
):
    model = reference(architecture, labels=1000)
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(1, 3, 224, 224)))


@pytest.mark.parametrize(
    "options",
    [
        {"qkv_bias": False},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "silu"},
        {"layer_norm_eps": 1e-3},
        {"patch_size": [8, 8]},
        {"image_size": [64, 64]},
    ],
)
def test_what_the_config_says_is_what_runs(options, tmp_path, perturb, assert_equal_logits):
    model = reference(transformers.ViTForImageClassification, **LITTLE | options)
    perturb(model)
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_equal_logits(checkpoint.load(tmp_path).network(pixels), model(pixels).logits)


def test_a_size_that_is_not_a_multiple_of_the_patch_is_cut():
    network = ViT(SMALL).eval()
    pixels = torch.randn(1, 3, 39, 55)
    torch.testing.assert_close(network(pixels), network(pixels[:, :, :32, :48]))


def test_the_trained_size_need_not_be_square():
    network = ViT(SMALL)
    assert network.positions.shape == (1, 1 + 4 * 6, 24)
    assert network(torch.randn(2, 3, 32, 48)).shape == (2, 5)
    assert network(torch.randn(2, 3, 64, 40)).shape == (2, 5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_heads": 5}, "24 is not a multiple of 5 heads"),
        ({"image_size": (32, 4)}, "exceeds the image"),
        ({"distillation_head": True}, "needs the distillation token"),
        ({"hidden_act": "softsign"}, "unknown activation 'softsign'"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        ViT(replace(SMALL, **change))


def test_a_new_network_starts_small_and_unbiased():
    network = ViT(replace(SMALL, distillation_token=True, distillation_head=True))
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0, name
        elif parameter.ndim > 1:
            assert 0 < parameter.abs().max() <= 0.04, name
        else:
            assert (parameter == 1).all(), name


def test_every_parameter_learns():
    network = ViT(replace(SMALL, distillation_token=True, distillation_head=True))
    network(torch.randn(2, 3, 32, 48)).square().sum().backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name.rsplit(".", 2)[-2] for name in idle} <= {"key"}  # softmax ignores a key's bias


@pytest.mark.parametrize("change", [{"dropout": 0.5}, {"attention_dropout": 0.5}])
def test_dropout_acts_in_training_only(change):
    network = ViT(replace(SMALL, **change))
    nn.init.normal_(network.head.weight)
    pixels = torch.randn(2, 3, 32, 48)
    assert not torch.equal(network(pixels), network(pixels))
    network.eval()
    assert torch.equal(network(pixels), network(pixels))
