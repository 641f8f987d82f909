from dataclasses import replace

import pytest
import torch

from models.layers.attention import AxialAttention, GridMask
from models.vit import Block, Encoder, EncoderConfig

SMALL = EncoderConfig(hidden_size=12, num_layers=3, num_heads=3, mlp_size=20)


def test_a_block_computes_equations_2_and_3():
    block = Block(SMALL)
    x = torch.randn(2, 5, 12)
    y = x + block.attention(block.norm_1(x))
    y = y + block.mlp(block.norm_2(y))
    torch.testing.assert_close(block(x), y)


def test_layer_norm_adds_epsilon_to_the_variance():
    norm = Block(replace(SMALL, layer_norm_eps=1e-3)).norm_1
    x = 1e-3 * torch.randn(4, 12)  # so small that epsilon matters
    centered = x - x.mean(-1, keepdim=True)
    expected = centered / (centered.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(norm(x), expected)


def test_an_encoder_applies_its_blocks_in_order():
    encoder = Encoder(SMALL)
    x = torch.randn(2, 5, 12)
    y = x
    for block in encoder.blocks:
        y = block(y)
    assert len(encoder.blocks) == 3
    assert torch.equal(encoder(x), y)


@pytest.mark.parametrize("attention", ["full", "axial"])
def test_the_width_of_a_head_is_independent_of_the_width_of_the_tokens(attention):
    encoder = Encoder(replace(SMALL, num_heads=5, head_dim=7, attention=attention))
    weights = {
        name.rsplit(".", 2)[1]: tuple(parameter.shape)
        for name, parameter in encoder.named_parameters()
        if "attention" in name and name.endswith("weight")
    }
    inner = {"query": (35, 12), "key": (35, 12), "value": (35, 12)}
    assert weights == inner | {"output": (12, 35)}


def test_without_positions_an_encoder_is_permutation_equivariant():
    encoder, order = Encoder(SMALL), torch.randperm(5)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(encoder(x[:, order]), encoder(x)[:, order])


def test_a_masked_token_does_not_change_other_tokens():
    encoder = Encoder(SMALL)
    x = torch.randn(1, 5, 12)
    mask = torch.tensor([True, True, False, True, True]).view(1, 1, 1, 5)
    y = encoder(x, mask)
    x[:, 2] += 10
    changed = (encoder(x, mask) != y).any(-1)[0]
    assert changed.tolist() == [False, False, True, False, False]


def test_axial_attention_replaces_full_attention():
    encoder = Encoder(replace(SMALL, attention="axial"))
    assert all(isinstance(block.attention, AxialAttention) for block in encoder.blocks)
    assert encoder(torch.randn(2, 1 + 3 * 4, 12), GridMask((3, 4))).shape == (2, 13, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_dim": 0}, "head_dim is 0, not 1 or more"),
        ({"num_heads": 5}, "12 is not a multiple of 5 heads"),
        ({"attention": "local"}, "attention is 'local', not full or axial"),
    ],
)
def test_invalid_sizes_and_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
