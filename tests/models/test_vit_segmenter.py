from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import fold, unfold

from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

SMALL = ViTSegmenterConfig(
    image_size=(16, 24),
    patch_size=8,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    mlp_size=24,
    num_labels=5,
)


def test_it_equals_unfold_linear_encoder_linear_fold():
    network = ViTSegmenter(SMALL).eval()
    network.norm.running_mean.normal_()
    network.norm.running_var.uniform_(0.5, 2)
    pixels = torch.rand(2, 3, 16, 24)
    x = unfold(network.norm(pixels), 8, stride=8).transpose(1, 2)  # (B, N, 3 P P)
    x = network.patch_embedding.projection(x) + network.positions
    for block in network.encoder.blocks:
        x = x + block.attention(block.norm_1(x))
        x = x + block.mlp(block.norm_2(x))
    expected = fold(network.head(x).transpose(1, 2), (16, 24), 8, stride=8)
    torch.testing.assert_close(network(pixels), expected)


def attention_of_torch(ours):
    """Return PyTorch's multi-head attention, which the article uses, with our weights."""
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    return theirs


def test_its_blocks_equal_those_of_the_article():
    network = ViTSegmenter(SMALL).eval()
    tokens = torch.randn(2, 6, 16)
    for block in network.encoder.blocks:
        assert {block.norm_1.eps, block.norm_2.eps} == {1e-5}
        x = block.norm_1(tokens)
        x = tokens + attention_of_torch(block.attention)(x, x, x, need_weights=False)[0]
        mlp = nn.Sequential(block.mlp.expand, nn.GELU(), block.mlp.contract)
        torch.testing.assert_close(block(tokens), x + mlp(block.norm_2(x)))


def test_each_token_gives_the_logits_of_its_own_patch():
    network = ViTSegmenter(SMALL).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.arange(5 * 64.0))
        logits = network(torch.rand(1, 3, 16, 24))
    patch = torch.arange(5 * 64.0).view(5, 8, 8)
    assert torch.equal(logits[0], patch.repeat(1, 2, 3))


def test_the_input_norm_uses_statistics_of_training():
    network = ViTSegmenter(SMALL)
    pixels = 3 * torch.randn(4, 3, 16, 24) + 5
    for _ in range(100):
        network(pixels)
    network.eval()
    normed = network.norm(pixels)
    torch.testing.assert_close(normed.mean((0, 2, 3)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(normed.std((0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)


@pytest.mark.parametrize("attention", ["full", "axial"])
@pytest.mark.parametrize(("size", "logits"), [((32, 24), (32, 24)), ((19, 30), (16, 24))])
def test_other_sizes_resample_the_positions(attention, size, logits):
    network = ViTSegmenter(replace(SMALL, attention=attention)).eval()
    assert network(torch.rand(2, 3, *size)).shape == (2, 5, *logits)


def test_a_patch_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="a patch of 32 px exceeds"):
        replace(SMALL, patch_size=32)


def test_every_parameter_gets_a_gradient():
    network = ViTSegmenter(SMALL)
    network(torch.rand(2, 3, 16, 24)).square().sum().backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name.rsplit(".", 2)[-2] for name in idle} <= {"key"}  # softmax ignores a key's bias
