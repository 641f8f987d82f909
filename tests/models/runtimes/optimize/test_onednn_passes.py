import pytest
import torch
from torch import nn

from models.runtimes.optimize import fold, onednn
from models.runtimes.optimize.decoder import RectifiedSum
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.onednn_passes import (
    PackedDense,
    PackedRectifiedSum,
    linears_by_onednn,
    linears_pass,
)


@pytest.mark.parametrize("activation", [None, nn.GELU(), nn.SiLU()])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_packed_layer_is_its_plain_form(bias, activation):
    plain = Dense.of(nn.Linear(20, 12, bias=bias), activation)
    packed, x, residual = PackedDense(plain), torch.randn(2, 9, 20), torch.randn(2, 9, 12)
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed(x, residual), plain(x, residual), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_packed_rectified_sum_is_its_plain_form_with_and_without_a_total():
    plain = RectifiedSum(torch.randn(12, 20), torch.randn(12))
    packed, x, total = PackedRectifiedSum(plain), torch.randn(2, 3, 4, 20), torch.randn(2, 3, 4, 12)
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)
    expected = plain(x, total)
    torch.testing.assert_close(packed(x, total), expected, atol=1e-5, rtol=1e-5)


def test_every_linear_layer_of_a_network_is_packed(any_network, assert_same):
    packed = linears_by_onednn(fold(any_network))
    assert not any(isinstance(module, Dense | nn.Linear) for module in packed.modules())
    assert_same(packed, any_network)


@pytest.mark.parametrize("operator", ["linear", "linear_add", "add_rectified_"])
def test_the_trial_finds_each_operator_that_is_wrong(operator, monkeypatch):
    monkeypatch.setattr(onednn, operator, lambda *arguments: torch.zeros(1, 1, 1024, 320))
    assert not linears_pass(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_says_yes_or_no(dtype):
    assert linears_pass(dtype) in (True, False)
