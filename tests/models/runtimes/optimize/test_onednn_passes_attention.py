import pytest
import torch

from models.runtimes.optimize import onednn, onednn_passes
from models.runtimes.optimize.attention import DotProductAttention, fuse_qkv
from models.runtimes.optimize.onednn_passes import (
    GroupedDotProductAttention,
    heads_by_onednn,
    onednn_heads_are_faster,
)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("queries", "keys", "heads", "d"), [(197, 197, 3, 8), (300, 40, 5, 16), (5, 7, 2, 4)]
)
@torch.inference_mode()
def test_grouped_heads_equal_the_plain_attention(queries, keys, heads, d, batch, monkeypatch):
    monkeypatch.setattr(onednn_passes, "MIN_MULTIPLICATIONS", 1)
    query, key, value = (torch.randn(batch, n, heads * d) for n in (queries, keys, keys))
    ours = GroupedDotProductAttention(heads)(query, key, value, None)
    torch.testing.assert_close(
        ours, DotProductAttention(heads)(query, key, value, None), atol=1e-5, rtol=1e-5
    )


@torch.inference_mode()
def test_query_key_and_value_may_be_views_of_one_tensor(monkeypatch):
    monkeypatch.setattr(onednn_passes, "MIN_MULTIPLICATIONS", 1)
    qkv = torch.randn(2, 100, 3 * 24)
    parts = qkv.chunk(3, dim=-1)
    ours = GroupedDotProductAttention(3)(*parts, None)
    torch.testing.assert_close(ours, DotProductAttention(3)(*parts, None), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_mask_falls_back_to_the_plain_attention(monkeypatch):
    monkeypatch.setattr(onednn_passes, "MIN_MULTIPLICATIONS", 1)
    query, key, value = (torch.randn(2, 80, 24) for _ in range(3))
    mask = torch.randn(1, 3, 80, 80)
    ours = GroupedDotProductAttention(3)(query, key, value, mask)
    torch.testing.assert_close(ours, DotProductAttention(3)(query, key, value, mask))


@torch.inference_mode()
def test_torch_computes_attention_over_few_tokens(monkeypatch):
    def unexpected(*arguments):
        raise AssertionError

    monkeypatch.setattr(onednn, "grouped_product", unexpected)
    few = torch.randn(2, 14, 24)
    GroupedDotProductAttention(3)(few, few, few, None)


def test_every_attention_of_a_network_is_replaced(each_kind, assert_same, monkeypatch):
    monkeypatch.setattr(onednn_passes, "MIN_MULTIPLICATIONS", 1)
    grouped = heads_by_onednn(fuse_qkv(each_kind))
    attentions = [module for module in grouped.modules() if isinstance(module, DotProductAttention)]
    assert attentions
    assert all(type(module) is GroupedDotProductAttention for module in attentions)
    assert_same(grouped, each_kind)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_runs_on_this_processor(dtype):
    assert onednn_heads_are_faster(dtype) in (True, False)
