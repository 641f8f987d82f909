import torch
from torch import nn

from models.runtimes.optimize.onednn_passes import channels_last


def test_the_weights_of_convolutions_become_channels_last_in_a_copy(network, assert_same):
    plain = network("SegFormer")
    laid_out = channels_last(plain)
    convolutions = [module for module in laid_out.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions
    for layer in convolutions:
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    first = plain.encoder.stages[0].patch_embedding.projection
    assert first.weight.is_contiguous()
    assert_same(laid_out, plain)
