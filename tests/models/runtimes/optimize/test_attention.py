import pytest
import torch

from models.layers.attention import Attention, AxisAttention, GridMask, ReducedAttention
from models.runtimes.optimize.attention import fuse_qkv

GRID = (2, 5, 7, 12)


def token_mask(shape, keep=0.7):
    """Return a random mask that keeps a token in every row and column."""
    mask = torch.rand(shape) < keep
    mask[..., 0] = True
    mask[..., 0, :] = True
    return mask


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_fused_attention_equals_the_plain_one_with_and_without_a_mask(bias):
    plain = Attention(12, 3, qkv_bias=bias)
    fused, x = fuse_qkv(plain), torch.randn(2, 9, 12)
    bias = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(fused(x), plain(x))
    torch.testing.assert_close(fused(x, bias), plain(x, bias))
    torch.testing.assert_close(fused(x, None, x), plain(x) + x)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("prefix", [0, 1])
@torch.no_grad()
def test_fused_axis_attention_equals_the_plain_one(axis, prefix):
    plain = AxisAttention(12, 3, axis)
    grid, patches = GRID[1:3], token_mask(GRID[:3]).flatten(1)  # (B, N)
    keep = torch.cat([torch.ones(GRID[0], prefix, dtype=torch.bool), patches], dim=1)
    mask, all_tokens = GridMask(grid, keep), GridMask(grid)
    fused, x = fuse_qkv(plain), torch.randn(*keep.shape, 12)
    torch.testing.assert_close(fused(x, all_tokens), plain(x, all_tokens))
    torch.testing.assert_close(fused(x, mask), plain(x, mask))
    torch.testing.assert_close(fused(x, mask, x), plain(x, mask) + x)


@pytest.mark.parametrize("ratio", [1, 2, 3])
@torch.no_grad()
def test_fused_reduced_attention_equals_the_plain_one(ratio):
    plain = ReducedAttention(12, 3, ratio)
    fused, x = fuse_qkv(plain), torch.randn(GRID)
    torch.testing.assert_close(fused(x), plain(x))
    torch.testing.assert_close(fused(x, None, x), plain(x) + x)


def test_query_key_and_value_become_one_product(network, assert_same):
    plain = network("plain")
    fused = fuse_qkv(plain)
    assert fused.encoder.blocks[0].attention.qkv.weight.shape == (72, 24)
    assert_same(fused, plain)
