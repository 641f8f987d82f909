import pytest
import torch

from models.layers.attention import SequenceReduction
from models.runtimes.optimize.patches import MatrixReduction, cells, reduce_by_matrix


def test_cells_hold_their_tokens_row_by_row_channels_innermost():
    x = torch.arange(2 * 4 * 2).view(1, 2, 4, 2)
    assert cells(x, 2)[0, 0].tolist() == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]


@pytest.mark.parametrize("size", [(6, 9), (7, 10), (3, 5)])
@torch.no_grad()
def test_a_product_with_a_matrix_is_the_strided_convolution(size):
    plain = SequenceReduction(8, 3)
    x = torch.randn(2, *size, 8)
    torch.testing.assert_close(MatrixReduction(plain)(x), plain(x), atol=1e-5, rtol=1e-5)


def test_every_reduction_of_a_network_becomes_a_matrix(network, assert_same):
    plain = network("SegFormer")
    reduced = reduce_by_matrix(plain)
    assert not any(isinstance(module, SequenceReduction) for module in reduced.modules())
    assert_same(reduced, plain)
