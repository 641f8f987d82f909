from dataclasses import replace

import pytest
import torch
from torch import nn

from models.runtimes.optimize import fold
from models.runtimes.optimize.blocks import ResidualBlock, drop_unread_tokens, fuse_residuals
from models.vit import ViT

NETWORKS = [
    "plain",
    "axial",
    "axial, class token",
    "SiLU",
    "segmenting axial ViT",
    "SegFormer",
    "SegFormer classifier",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_fused_residuals_and_activations_keep_the_logits(name, network, assert_same):
    plain = network(name)
    fused = fuse_residuals(plain)
    assert any(isinstance(module, ResidualBlock) for module in fused.modules())
    assert_same(fused, plain)


@pytest.mark.parametrize("name", ["plain", "relative positions", "distilled", "two heads"])
@torch.no_grad()
def test_the_last_block_computes_only_the_tokens_that_a_head_reads(name, network, assert_same):
    plain = network(name)
    cut = drop_unread_tokens(plain)
    read = 2 if name == "two heads" else 1
    assert cut.features(torch.randn(2, 3, 32, 48)).shape == (2, read, 24)
    assert_same(cut, plain)


@torch.no_grad()
def test_the_last_block_applies_the_mask(network):
    plain, pixels = network("plain"), torch.randn(2, 3, 32, 48)
    mask = torch.rand(2, 1 + 4 * 6) < 0.6
    mask[:, 0] = True
    torch.testing.assert_close(drop_unread_tokens(plain)(pixels, mask), plain(pixels, mask))


@pytest.mark.parametrize("name", ["mean", "axial", "axial, class token", "segmenting ViT"])
def test_networks_whose_last_block_needs_all_tokens_are_not_changed(name, network):
    cut = drop_unread_tokens(network(name))
    assert not any(isinstance(module, ResidualBlock) for module in cut.modules())


def test_a_custom_encoder_is_not_changed(network):
    other = ViT(network("plain").config, encoder=nn.Identity())
    assert isinstance(drop_unread_tokens(other).encoder, nn.Identity)


@torch.no_grad()
def test_an_unknown_last_block_is_not_changed(network, assert_same):
    plain = network("plain")
    plain.encoder.blocks[1] = nn.TransformerEncoderLayer(24, 3, norm_first=True, batch_first=True)
    plain.eval()
    pixels = torch.randn(2, 3, 32, 48)
    assert drop_unread_tokens(plain).features(pixels).shape == (2, 25, 24)


def test_an_encoder_without_blocks_is_not_changed(network, assert_same):
    plain = ViT(replace(network("plain").config, num_layers=0)).eval()
    assert_same(fold(plain), plain)
