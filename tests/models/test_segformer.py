from dataclasses import replace

import pytest
import torch
import transformers
from torch import nn

from models import checkpoint
from models.segformer import MIN_SIDE, DropPath, Segformer, SegformerClassifier, SegformerConfig

SMALL = SegformerConfig(
    depths=(1, 2),
    hidden_sizes=(8, 12),
    num_heads=(1, 3),
    sr_ratios=(2, 1),
    patch_sizes=(7, 3),
    strides=(4, 2),
    mlp_ratios=(2, 3),
    decoder_hidden_size=16,
    num_labels=3,
)
WIDE = {"hidden_sizes": [64, 128, 320, 512]}
WIDE_768 = WIDE | {"decoder_hidden_size": 768}
SIZES = {
    "B0": {},
    "B1": WIDE,
    "B2": WIDE_768 | {"depths": [3, 4, 6, 3]},
    "B3": WIDE_768 | {"depths": [3, 4, 18, 3]},
    "B4": WIDE_768 | {"depths": [3, 8, 27, 3]},
    "B5": WIDE_768 | {"depths": [3, 6, 40, 3]},
}


@torch.no_grad()
def logits_of_both(model, folder, pixels):
    model.save_pretrained(folder)
    return checkpoint.load(folder).network(pixels), model(pixels).logits


def reference(labels=19, **options):
    config = transformers.SegformerConfig(
        id2label={i: f"label {i}" for i in range(labels)}, **options
    )
    return transformers.SegformerForSemanticSegmentation._from_config(config).eval()


@pytest.mark.parametrize("size", [(128, 128), (33, 47), (MIN_SIDE, MIN_SIDE), (29, 29)])
def test_b0_has_the_logits_of_the_reference_at_any_size(
    size, tmp_path, perturb, assert_equal_logits
):
    model = reference()
    perturb(model)
    ours, theirs = logits_of_both(model, tmp_path, torch.randn(2, 3, *size))
    assert ours.shape[2:] == (-(-size[0] // 4), -(-size[1] // 4))
    assert_equal_logits(ours, theirs)


@pytest.mark.slow
@pytest.mark.timeout(600)  # minutes on a busy machine
@pytest.mark.parametrize("size", SIZES)
def test_b0_to_b5_have_the_logits_of_the_reference(size, tmp_path, perturb, assert_equal_logits):
    model = reference(labels=150, **SIZES[size])
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(1, 3, 512, 512)))
    pixels = torch.randn(1, 3, 131, 253)
    with torch.no_grad():
        assert_equal_logits(checkpoint.load(tmp_path).network(pixels), model(pixels).logits)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden_act": "relu"},
        {"layer_norm_eps": 0.5},  # SegFormer ignores it
        {"mlp_ratios": [1, 2, 3, 4]},
        {"depths": [1, 2, 3, 1], "sr_ratios": [4, 4, 1, 1]},
        {
            "num_encoder_blocks": 3,
            "depths": [1, 1, 1],
            "hidden_sizes": [16, 32, 48],
            "num_attention_heads": [1, 2, 3],
            "sr_ratios": [4, 2, 1],
            "patch_sizes": [7, 3, 5],
            "strides": [4, 2, 3],
            "mlp_ratios": [2, 2, 2],
        },
    ],
)
def test_config_options_have_the_logits_of_the_reference(
    options, tmp_path, perturb, assert_equal_logits
):
    model = reference(**options)
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(1, 3, 96, 64)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": (1, 5)}, "12 is not a multiple of 5 heads"),
        ({"strides": (4, 2, 2)}, "not every field has 2 stages"),
        ({"hidden_act": "softsign"}, "unknown activation 'softsign'"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Segformer(replace(SMALL, **change))


def test_every_parameter_gets_a_gradient():
    network = Segformer(replace(SMALL, drop_path=0.0))
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(name.endswith("key.bias") for name in idle)  # softmax ignores it


def test_a_new_network_keeps_its_features_in_range():
    network = Segformer(SMALL).eval()
    for features in network.encoder(torch.randn(4, 3, 64, 64)):
        assert 0.3 < features.std() < 3


def test_on_the_meta_device_no_normal_values_are_drawn(monkeypatch):
    """The meta form of `normal_` imports torch._dynamo, which delays a start by seconds."""
    monkeypatch.setattr(nn.init, "normal_", lambda *_, **__: pytest.fail("drawn"))
    with torch.device("meta"):
        network = Segformer(SegformerConfig())
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize(
    "change",
    [{"dropout": 0.5}, {"attention_dropout": 0.5}, {"classifier_dropout": 0.5}, {"drop_path": 0.9}],
)
def test_dropout_acts_in_training_only(change):
    torch.manual_seed(0)
    none = {"dropout": 0.0, "attention_dropout": 0.0, "classifier_dropout": 0.0, "drop_path": 0.0}
    network = Segformer(replace(SMALL, **none | change))
    network.decoder.norm.momentum = 0.0
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    pixels = torch.randn(4, 3, 32, 32)
    assert not torch.equal(network(pixels), network(pixels))
    network.eval()
    assert torch.equal(network(pixels), network(pixels))


def test_drop_path_keeps_the_expectation():
    torch.manual_seed(0)
    x = torch.ones(4000, 1, 1, 1)
    dropped = DropPath(0.25)(x)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)


def test_drop_path_rates_grow_linearly_from_0():
    network = Segformer(replace(SMALL, drop_path=0.2))
    rates = [block.drop_path.rate for stage in network.encoder.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize("size", [(64, 64), (33, 95)])
def test_a_mit_classifier_has_the_logits_of_the_reference(
    size, tmp_path, perturb, assert_equal_logits
):
    config = transformers.SegformerConfig(id2label={i: f"label {i}" for i in range(10)})
    model = transformers.SegformerForImageClassification._from_config(config).eval()
    perturb(model)
    assert_equal_logits(*logits_of_both(model, tmp_path, torch.randn(2, 3, *size)))


def test_a_mit_classifier_reads_the_mean_of_its_last_stage():
    network = SegformerClassifier(SMALL).eval()
    pixels = torch.randn(2, 3, 64, 64)
    logits, embedding = network.classify(pixels)
    torch.testing.assert_close(embedding, network.encoder(pixels)[-1].flatten(2).mean(2))
    torch.testing.assert_close(logits, network.head(embedding))


@pytest.mark.parametrize("size", [(64, 96), (33, 47)])
@torch.no_grad()
def test_aligned_upsampling_gives_logits_of_the_size_of_the_input(size, perturb):
    plain = Segformer(SMALL).eval()
    perturb(plain)
    aligned = Segformer(replace(SMALL, aligned_upsampling=True)).eval()
    aligned.load_state_dict(plain.state_dict())
    pixels = torch.randn(2, 3, *size)
    expected = nn.functional.interpolate(plain(pixels), size, mode="bilinear", align_corners=True)
    assert torch.equal(aligned(pixels), expected)
