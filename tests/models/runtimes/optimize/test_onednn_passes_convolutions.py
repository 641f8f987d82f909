import pytest
import torch
from torch import nn

from models.runtimes.optimize.blocks import DepthwiseConvolution, fuse_residuals
from models.runtimes.optimize.onednn_passes import (
    PackedConvolution,
    convolutions_by_onednn,
    onednn_convolutions_are_faster,
    packed_depthwise,
)


@pytest.mark.parametrize("activation", [None, nn.GELU(), nn.SiLU()])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_a_packed_convolution_equals_the_plain_layer_and_returns_channels_last(layout, activation):
    plain = nn.Conv2d(3, 8, 7, stride=4, padding=3)
    x = torch.randn(2, 3, 21, 30).contiguous(memory_format=layout)
    ours = PackedConvolution(plain, activation)(x)
    expected = plain(x) if activation is None else activation(plain(x))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.ReLU(), nn.SiLU()])
@torch.inference_mode()
def test_a_packed_depthwise_convolution_equals_the_plain_layer(activation):
    plain = DepthwiseConvolution(nn.Conv2d(20, 20, 3, padding=1, groups=20), activation)
    x = torch.randn(2, 9, 7, 20)
    torch.testing.assert_close(packed_depthwise(plain)(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["SegFormer", "SegFormer with SiLU", "hybrid"])
def test_every_convolution_of_a_network_is_packed(name, network, assert_same):
    plain = network(name)
    converted = convolutions_by_onednn(fuse_residuals(plain).encoder)
    kinds = {type(module) for module in converted.modules() if not list(module.children())}
    assert_same(convolutions_by_onednn(fuse_residuals(plain)), plain)
    assert name == "hybrid" or nn.GELU not in kinds


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_runs_on_this_processor(dtype):
    assert onednn_convolutions_are_faster(dtype) in (True, False)
