import pytest
import torch
from torch import nn

from models.runtimes.optimize import onednn

LINEAR = nn.Linear(6, 5)


@pytest.mark.parametrize("layer", [nn.GELU(), nn.GELU("tanh"), nn.ReLU(), nn.Identity(), None])
@torch.no_grad()
def test_each_post_op_equals_the_activation(layer):
    x = torch.randn(2, 7, 6)
    packed = onednn.pack_linear(LINEAR.weight)
    ours = onednn.linear(x, packed, LINEAR.bias, onednn.post_op(layer))
    expected = LINEAR(x) if layer is None else layer(LINEAR(x))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_an_unsupported_activation_has_no_post_op():
    assert onednn.post_op(nn.SiLU()) is None


@torch.no_grad()
def test_a_residual_may_be_a_view():
    x, residual = torch.randn(3, 4, 6), torch.randn(3, 9, 5)[:, :4]
    packed = onednn.pack_linear(LINEAR.weight)
    ours = onednn.linear_add(x, residual, packed, LINEAR.bias)
    torch.testing.assert_close(ours, LINEAR(x) + residual, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_linear_add_relu_overwrites_the_total():
    x, total = torch.randn(2, 4, 3, 6), torch.randn(2, 4, 3, 5)
    expected = torch.relu(LINEAR(x) + total)
    ours = onednn.linear_add_relu_(total, x, LINEAR.weight, LINEAR.bias)
    assert ours.data_ptr() == total.data_ptr()
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_grouped_product_multiplies_each_group_by_its_matrix():
    x, weight = torch.randn(7, 3 * 4), torch.randn(3, 5, 4)
    expected = torch.einsum("ngc,gdc->ngd", x.view(7, 3, 4), weight).flatten(1)
    ours = onednn.grouped_product(x, weight, 3)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
