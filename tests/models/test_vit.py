from dataclasses import replace

import pytest
import torch
import transformers
from torch import nn

from models import checkpoint
from models.layers.heads import MLPHead
from models.layers.patch_embedding import PATCH_EMBEDDINGS
from models.layers.positions import sinusoid_1d, sinusoid_2d
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
TWO_LAYERS = TINY | {"num_hidden_layers": 2, "image_size": 64}
OTHER_SIZES = [(64, 64), (70, 75), (128, 32), (16, 16)]  # trained, not a multiple, wide, one patch


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
    model = reference(transformers.ViTForImageClassification, **TWO_LAYERS)
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(2, 3, *size)))


@pytest.mark.parametrize(
    "architecture",
    [
        transformers.DeiTForImageClassification,
        transformers.DeiTForImageClassificationWithTeacher,
    ],
)
def test_a_distilled_deit_has_the_logits_of_the_reference(
    architecture, tmp_path, perturb, assert_equal_logits
):
    model = reference(architecture, **TWO_LAYERS)
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(2, 3, 80, 112)))


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
def test_config_options_have_the_logits_of_the_reference(
    options, tmp_path, perturb, assert_equal_logits
):
    model = reference(transformers.ViTForImageClassification, **TWO_LAYERS | options)
    perturb(model)
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_equal_logits(checkpoint.load(tmp_path).network(pixels), model(pixels).logits)


def test_pixels_that_do_not_fill_a_patch_are_cut_off():
    network = ViT(SMALL).eval()
    pixels = torch.randn(1, 3, 39, 55)
    torch.testing.assert_close(network(pixels), network(pixels[:, :, :32, :48]))


def test_the_trained_size_need_not_be_square():
    network = ViT(SMALL)
    assert network.positions.shape == (1, 1 + 4 * 6, 24)
    assert network(torch.randn(2, 3, 32, 48)).shape == (2, 5)
    assert network(torch.randn(2, 3, 64, 40)).shape == (2, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 5}, "24 is not a multiple of 5 heads"),
        ({"image_size": (32, 4)}, "exceeds the image"),
        ({"distillation_head": True}, "needs the distillation token"),
        ({"hidden_act": "softsign"}, "unknown activation 'softsign'"),
        ({"positions": "rotary"}, "positions is 'rotary', not one of learned, sinusoidal_1d"),
        ({"patch_order": "channels_last"}, "needs linear or normalized patches"),
        ({"patch_order": "rows"}, "patch_order is 'rows', not one of channels_first"),
        ({"pooling": "max"}, "pooling is 'max', not one of class, mean, class_mean"),
        (
            {"attention": "axial", "pooling": "mean", "positions": "relative"},
            "exclude each other",
        ),
        ({"distillation_token": True, "pooling": "mean"}, "needs a class token"),
        (
            {"positions": "sinusoidal_2d", "hidden_size": 18},
            "a multiple of 4, not 18",
        ),
        ({"mlp": "geglu"}, "mlp is 'geglu', not one of plain, swiglu"),
        ({"num_registers": -1}, "num_registers is -1, not 0 or more"),
        ({"distillation_token": True, "pooling": "class_mean"}, "needs a class token, not the"),
        ({"patch_embedding": "hybrid", "patch_size": 6}, "a multiple of 4, not 6"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
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


def test_every_parameter_gets_a_gradient():
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


def test_a_mask_has_the_logits_of_the_reference(tmp_path, perturb, assert_equal_logits):
    model = reference(transformers.ViTForImageClassification, **TWO_LAYERS)
    perturb(model)
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 64, 64)
    mask = torch.rand(2, 17) < 0.6
    mask[:, 0] = True
    with torch.no_grad():
        ours = checkpoint.load(tmp_path).network(pixels, mask)
        theirs = model(pixels, attention_mask=mask.long()).logits
    assert_equal_logits(ours, theirs)
    assert not torch.equal(ours, model(pixels).logits)


def random_vit(**options):
    """Return a small ViT with large random weights, in eval mode."""
    torch.manual_seed(0)
    network = ViT(replace(SMALL, **options)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network


@pytest.mark.parametrize(
    ("positions", "table"),
    [
        ("sinusoidal_1d", sinusoid_1d(25, 24)),
        ("sinusoidal_2d", torch.cat([torch.zeros(1, 24), sinusoid_2d((4, 6), 24)])),
    ],
)
def test_sinusoidal_positions_equal_learned_positions_with_the_same_values(positions, table):
    network, learned = random_vit(positions=positions), random_vit(positions="learned")
    learned.load_state_dict(network.state_dict() | {"positions": table[None]})
    pixels = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(network(pixels), learned(pixels))


def test_relative_positions_add_a_bias_to_every_attention():
    network = random_vit(positions="relative")
    pixels = torch.randn(2, 3, 32, 48)
    x, grid = network.tokens(pixels)
    bias = network.relative_bias(grid)
    for block in network.encoder.blocks:
        x = x + block.attention(block.norm_1(x), bias)
        x = x + block.mlp(block.norm_2(x))
    torch.testing.assert_close(network(pixels), network.head(network.norm(x)[:, 0]))
    mask = torch.ones(2, 25, dtype=torch.bool)
    torch.testing.assert_close(network(pixels, mask), network(pixels))
    mask[:, 5] = False
    assert not torch.allclose(network(pixels, mask), network(pixels))


def test_mean_pooling_reads_all_patches_and_has_no_class_token():
    network = random_vit(pooling="mean")
    pixels = torch.randn(2, 3, 32, 48)
    classified = network.classify(pixels)
    torch.testing.assert_close(classified.embedding, network.features(pixels).mean(1))
    torch.testing.assert_close(classified.logits, network.head(classified.embedding))
    assert network.positions.shape == (1, 24, 24)
    assert not hasattr(network, "class_token")


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "mean"},
        {"pooling": "mean", "attention": "axial"},
        {"pooling": "mean", "attention": "axial", "num_registers": 2},
    ],
)
def test_mean_pooling_excludes_masked_tokens(options):
    network = random_vit(**options)
    pixels = torch.randn(1, 3, 32, 48)
    registers = network.config.num_registers
    mask = torch.ones(1, registers + 24, dtype=torch.bool)
    torch.testing.assert_close(network(pixels, mask), network(pixels))
    mask[0, registers + 7] = False
    embedding = network.classify(pixels, mask).embedding
    changed = pixels.clone()
    changed[:, :, 8:16, 8:16] += 1  # the eighth patch: the second of the second row
    torch.testing.assert_close(network.classify(changed, mask).embedding, embedding)


def axial_mask(rows, columns, prefix, axis):
    """Return which token attends to which, (K + N, K + N), for one axis of a grid."""
    place = [(row, column) for row in range(rows) for column in range(columns)]
    line = [None] * prefix + [each[2 - axis] for each in place]
    return torch.tensor([[None in (a, b) or a == b for b in line] for a in line])


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("distilled", [False, True])
def test_axial_attention_with_prefix_tokens_equals_full_attention_with_two_masks(
    distilled, registers
):
    distillation = {"distillation_token": distilled, "distillation_head": distilled}
    network = random_vit(attention="axial", head_dim=11, num_registers=registers, **distillation)
    pixels = torch.randn(2, 3, 41, 50)
    x, (rows, columns) = network.tokens(pixels)
    prefix = (2 if distilled else 1) + registers
    masks = [axial_mask(rows, columns, prefix, axis) for axis in (1, 2)]
    for block in network.encoder.blocks:
        y = block.norm_1(x)
        y = block.attention.height.attend(y, y, masks[0])
        x = x + block.attention.width.attend(y, y, masks[1])
        x = x + block.mlp(block.norm_2(x))
    x = network.norm(x)
    logits = network.head(x[:, 0])
    if distilled:
        logits = (logits + network.distillation_head(x[:, 1])) / 2
    torch.testing.assert_close(network(pixels), logits)


def test_the_class_token_of_axial_attention_ignores_masked_tokens():
    network = random_vit(attention="axial")
    pixels = torch.randn(1, 3, 32, 48)
    mask = torch.ones(1, 25, dtype=torch.bool)
    torch.testing.assert_close(network(pixels, mask), network(pixels))
    mask[0, 8] = False
    changed = pixels.clone()
    changed[:, :, 8:16, 8:16] += 1  # the eighth patch: the second of the second row
    torch.testing.assert_close(network(changed, mask), network(pixels, mask))
    assert not torch.allclose(network(changed), network(pixels))


@pytest.mark.parametrize("registers", [0, 2])
def test_the_head_may_read_the_class_token_and_the_mean_of_the_patches(registers):
    network = random_vit(pooling="class_mean", num_registers=registers)
    pixels = torch.randn(1, 3, 32, 48)
    tokens = network.features(pixels)
    patches = tokens[:, 1 + registers :]
    assert patches.shape == (1, 24, 24)
    classified = network.classify(pixels)
    expected = torch.cat([tokens[:, 0], patches.mean(1)], dim=1)
    torch.testing.assert_close(classified.embedding, expected)
    torch.testing.assert_close(classified.logits, network.head(expected))
    mask = torch.ones(1, 1 + registers + 24, dtype=torch.bool)
    torch.testing.assert_close(network(pixels, mask), classified.logits)
    mask[0, 1 + registers + 7] = False
    changed = pixels.clone()
    changed[:, :, 8:16, 8:16] += 1  # the eighth patch: the second of the second row
    torch.testing.assert_close(network(changed, mask), network(pixels, mask))


def test_registers_follow_the_class_token_and_have_no_positions():
    network = random_vit(num_registers=2)
    assert network.positions.shape == (1, 1 + 24, 24)
    with torch.no_grad():
        network.positions.zero_()
        tokens, _ = network.tokens(torch.randn(2, 3, 32, 48))
        network.positions.fill_(1)
        moved, _ = network.tokens(torch.randn(2, 3, 32, 48))
    for each in (tokens, moved):
        torch.testing.assert_close(each[:, 1:3], network.registers.expand(2, -1, -1))
    torch.testing.assert_close(moved[:, 0], tokens[:, 0] + 1)


@pytest.mark.parametrize("option", ["linear", "normalized", "hybrid"])
def test_the_config_selects_the_patch_embedding(option):
    network = random_vit(patch_embedding=option)
    patches = network.patch_embedding(torch.randn(2, 3, 32, 48))
    assert type(network.patch_embedding) is PATCH_EMBEDDINGS[option]
    assert patches.shape == (2, 4, 6, 24)


@pytest.mark.parametrize("option", ["linear", "normalized"])
def test_the_config_selects_the_order_of_the_values_in_a_patch(option):
    network = random_vit(patch_embedding=option, patch_order="channels_last")
    other = random_vit(patch_embedding=option)
    state = network.state_dict()
    for name in ("norm_1.weight", "norm_1.bias", "projection.weight"):
        if (name := f"patch_embedding.{name}") in state:
            values = state[name].unflatten(-1, (8, 8, 3))
            state[name] = values.movedim(-1, -3).flatten(-3)  # (..., channel, row, column)
    other.load_state_dict(state)
    pixels = torch.randn(2, 3, 33, 50)
    torch.testing.assert_close(network(pixels), other(pixels))


def test_a_head_may_be_an_mlp():
    network = random_vit(head="mlp", distillation_token=True, distillation_head=True)
    assert isinstance(network.head, MLPHead)
    assert isinstance(network.distillation_head, MLPHead)


def test_the_encoder_is_replaceable():
    class Doubling(nn.Module):
        def forward(self, x, mask=None):
            return 2 * x

    network = ViT(SMALL, encoder=Doubling()).eval()
    pixels = torch.randn(2, 3, 32, 48)
    x, _ = network.tokens(pixels)
    torch.testing.assert_close(network.features(pixels), network.norm(2 * x))


@pytest.mark.parametrize("size", [(64, 64), (40, 24)])
@pytest.mark.parametrize(
    "options",
    [
        {"positions": "sinusoidal_1d"},
        {"positions": "sinusoidal_2d"},
        {"positions": "relative"},
        {"pooling": "mean", "attention": "axial"},
        {"attention": "axial"},
        {"attention": "axial", "positions": "sinusoidal_2d", "distillation_token": True},
        {"pooling": "class_mean", "num_registers": 2, "mlp": "swiglu", "antialias": True},
        {"pooling": "class_mean", "num_registers": 2, "attention": "axial"},
    ],
)
def test_every_option_accepts_another_input_size(size, options):
    assert random_vit(**options)(torch.randn(2, 3, *size)).shape == (2, 5)
