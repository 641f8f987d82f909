import pytest
import torch
from torch import nn

from models.runtimes.optimize import onednn

LINEAR = nn.Linear(6, 5)


@pytest.mark.parametrize("layer", [nn.GELU(), nn.GELU("tanh"), nn.ReLU(), nn.Identity(), None])
@torch.no_grad()
def test_an_activation_that_it_names_is_that_activation(layer):
    x = torch.randn(2, 7, 6)
    packed = onednn.pack_linear(LINEAR.weight)
    ours = onednn.linear(x, packed, LINEAR.bias, onednn.eltwise(layer))
    expected = LINEAR(x) if layer is None else layer(LINEAR(x))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_an_activation_without_a_name_has_none():
    assert onednn.eltwise(nn.SiLU()) is None


@torch.no_grad()
def test_a_residual_may_be_a_view():
    x, residual = torch.randn(3, 4, 6), torch.randn(3, 9, 5)[:, :4]
    packed = onednn.pack_linear(LINEAR.weight)
    ours = onednn.linear_add(x, residual, packed, LINEAR.bias)
    torch.testing.assert_close(ours, LINEAR(x) + residual, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_rectified_sum_stands_in_the_memory_of_the_total():
    x, total = torch.randn(2, 4, 3, 6), torch.randn(2, 4, 3, 5)
    expected = torch.relu(LINEAR(x) + total)
    ours = onednn.add_rectified_(total, x, LINEAR.weight, LINEAR.bias)
    assert ours.data_ptr() == total.data_ptr()
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_groups_of_columns_meet_their_own_matrices():
    x, weight = torch.randn(7, 3 * 4), torch.randn(3, 5, 4)
    expected = torch.einsum("ngc,gdc->ngd", x.view(7, 3, 4), weight).flatten(1)
    ours = onednn.grouped_product(x, weight, 3)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
