import pytest
import torch

from models.layers.attention import SequenceReduction
from models.runtimes.optimize.patches import MatrixReduction, reduce_by_matrix, space_to_depth


def test_space_to_depth_orders_tokens_row_by_row_with_channels_innermost():
    x = torch.arange(2 * 4 * 2).view(1, 2, 4, 2)
    assert space_to_depth(x, 2)[0, 0].tolist() == [
        [0, 1, 2, 3, 8, 9, 10, 11],
        [4, 5, 6, 7, 12, 13, 14, 15],
    ]


@pytest.mark.parametrize("size", [(6, 9), (7, 10), (3, 5)])
@torch.no_grad()
def test_a_matrix_reduction_equals_the_strided_convolution(size):
    plain = SequenceReduction(8, 3)
    x = torch.randn(2, *size, 8)
    torch.testing.assert_close(MatrixReduction(plain)(x), plain(x), atol=1e-5, rtol=1e-5)


def test_every_sequence_reduction_of_a_network_is_replaced(network, assert_same):
    plain = network("SegFormer")
    reduced = reduce_by_matrix(plain)
    assert not any(isinstance(module, SequenceReduction) for module in reduced.modules())
    assert_same(reduced, plain)
