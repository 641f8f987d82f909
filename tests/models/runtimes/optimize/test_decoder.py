import pytest
import torch
from torch import nn

from models.registry import segformer_config
from models.runtimes.optimize.decoder import FoldedDecodeHead, fold_decode_head
from models.segformer import Segformer


@pytest.mark.parametrize("name", ["SegFormer", "SegFormer of one stage"])
def test_the_folded_decode_head_keeps_the_logits(name, network, assert_same):
    plain = network(name)
    folded = fold_decode_head(plain)
    assert isinstance(folded.decoder, FoldedDecodeHead)
    assert_same(folded, plain)


def test_the_folded_decode_head_of_b2_has_one_matrix_per_stage():
    with torch.device("meta"):  # shapes alone
        network = Segformer(segformer_config("B2")).eval()
    folded = fold_decode_head(network).decoder
    assert folded.finest.weight.shape == (768, 64)
    assert [layer.weight.shape for layer in folded.coarser] == [(768, 128), (768, 320), (768, 512)]
    assert (
        sum(parameter.numel() for parameter in folded.parameters()) == 768 * (1024 + 1 + 150) + 150
    )
    assert not any(isinstance(module, nn.Conv2d) for module in folded.modules())
