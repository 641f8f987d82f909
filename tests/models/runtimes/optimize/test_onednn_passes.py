import pytest
import torch
from torch import nn

from models.runtimes.optimize import fold, onednn
from models.runtimes.optimize.decoder import LinearAddReLU
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.onednn_passes import (
    OneDNNLinearAddReLU,
    PackedDense,
    linears_by_onednn,
    onednn_linears_are_faster,
)


@pytest.fixture(autouse=True)
def _trial_of_this_test():
    """The result of a trial is cached, also the one with a wrong operator."""
    onednn_linears_are_faster.cache_clear()
    yield
    onednn_linears_are_faster.cache_clear()


@pytest.mark.parametrize("activation", [None, nn.GELU(), nn.SiLU()])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_a_packed_dense_layer_equals_the_plain_layer(bias, activation):
    plain = Dense.of(nn.Linear(20, 12, bias=bias), activation)
    packed, x, residual = PackedDense(plain), torch.randn(2, 9, 20), torch.randn(2, 9, 12)
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed(x, residual), plain(x, residual), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_linear_add_relu_by_onednn_equals_the_plain_layer_with_and_without_a_total():
    plain = LinearAddReLU(torch.randn(12, 20), torch.randn(12))
    packed, x, total = (
        OneDNNLinearAddReLU(plain),
        torch.randn(2, 3, 4, 20),
        torch.randn(2, 3, 4, 12),
    )
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)
    expected = plain(x, total)
    torch.testing.assert_close(packed(x, total), expected, atol=1e-5, rtol=1e-5)


def test_every_linear_layer_of_a_network_is_packed(each_kind, assert_same):
    packed = linears_by_onednn(fold(each_kind))
    assert not any(isinstance(module, Dense | nn.Linear) for module in packed.modules())
    assert_same(packed, each_kind)


@pytest.mark.parametrize("operator", ["linear", "linear_add", "linear_add_relu_"])
def test_the_trial_refuses_a_wrong_operator(operator, monkeypatch):
    monkeypatch.setattr(onednn, operator, lambda *arguments: torch.zeros(1, 1, 1024, 320))
    assert not onednn_linears_are_faster(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_runs_on_this_processor(dtype):
    assert onednn_linears_are_faster(dtype) in (True, False)
