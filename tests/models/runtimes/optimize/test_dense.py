import pytest
import torch
from torch import nn

from models.runtimes.optimize.dense import Dense, join_linears


def test_a_dense_layer_adds_activation_and_residual_to_a_linear_layer():
    layer, x, residual = nn.Linear(6, 4), torch.randn(2, 3, 6), torch.randn(2, 3, 4)
    torch.testing.assert_close(Dense.of(layer)(x), layer(x))
    dense = Dense.of(layer, nn.GELU())
    torch.testing.assert_close(dense(x, residual), nn.functional.gelu(layer(x)) + residual)
    assert dense.weight.data_ptr() == layer.weight.data_ptr()


@pytest.mark.parametrize("bias", [True, False])
def test_joined_linear_layers_give_scaled_outputs_side_by_side(bias):
    first, second = nn.Linear(6, 4, bias=bias), nn.Linear(6, 2, bias=bias)
    x = torch.randn(5, 6)
    expected = torch.cat([first(x) * 0.3, second(x)], dim=1)
    torch.testing.assert_close(join_linears([first, second], [0.3, 1.0])(x), expected)
