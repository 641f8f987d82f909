"""The network that is exported to OpenVINO has the outputs of the plain network."""

import pytest
import torch

from models.runtimes.openvino.conversion import ConvolutionDecodeHead, decode_by_convolutions
from models.segformer import Segformer, SegformerConfig


@pytest.mark.parametrize("size", [(64, 64), (40, 56)])
@torch.inference_mode()
def test_a_decode_head_of_convolutions_keeps_the_logits(size, perturb, assert_equal_logits):
    plain = Segformer(
        SegformerConfig(
            depths=(1, 1, 1, 1),
            hidden_sizes=(8, 16, 24, 32),
            num_heads=(1, 2, 3, 4),
            decoder_hidden_size=16,
            num_labels=5,
        )
    ).eval()
    perturb(plain)
    exported = decode_by_convolutions(plain)
    assert isinstance(exported.decoder, ConvolutionDecodeHead)
    pixels = torch.randn(2, 3, *size)
    assert_equal_logits(exported(pixels), plain(pixels))
