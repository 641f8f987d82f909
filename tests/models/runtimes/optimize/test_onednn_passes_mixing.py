import pytest
import torch

from models.runtimes.optimize import onednn, onednn_passes
from models.runtimes.optimize.attention import Mixing, fuse_qkv
from models.runtimes.optimize.onednn_passes import GroupedMixing, heads_by_onednn, heads_pass


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("queries", "keys", "heads", "d"), [(197, 197, 3, 8), (300, 40, 5, 16), (5, 7, 2, 4)]
)
@torch.inference_mode()
def test_heads_as_groups_mix_as_heads_do(queries, keys, heads, d, batch, monkeypatch):
    monkeypatch.setattr(onednn_passes, "LEAST_WORK", 1)
    query, key, value = (torch.randn(batch, n, heads * d) for n in (queries, keys, keys))
    ours = GroupedMixing(heads)(query, key, value, None)
    torch.testing.assert_close(ours, Mixing(heads)(query, key, value, None), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_parts_of_one_product_may_be_mixed(monkeypatch):
    monkeypatch.setattr(onednn_passes, "LEAST_WORK", 1)
    qkv = torch.randn(2, 100, 3 * 24)
    parts = qkv.chunk(3, dim=-1)
    ours = GroupedMixing(3)(*parts, None)
    torch.testing.assert_close(ours, Mixing(3)(*parts, None), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_mask_is_heeded(monkeypatch):
    monkeypatch.setattr(onednn_passes, "LEAST_WORK", 1)
    query, key, value = (torch.randn(2, 80, 24) for _ in range(3))
    mask = torch.randn(1, 3, 80, 80)
    ours = GroupedMixing(3)(query, key, value, mask)
    torch.testing.assert_close(ours, Mixing(3)(query, key, value, mask))


@torch.inference_mode()
def test_few_tokens_are_left_to_torch(monkeypatch):
    def unexpected(*arguments):
        raise AssertionError

    monkeypatch.setattr(onednn, "grouped_product", unexpected)
    few = torch.randn(2, 14, 24)
    GroupedMixing(3)(few, few, few, None)


def test_every_attention_of_a_network_mixes_by_groups(any_network, assert_same, monkeypatch):
    monkeypatch.setattr(onednn_passes, "LEAST_WORK", 1)
    grouped = heads_by_onednn(fuse_qkv(any_network))
    mixings = [module for module in grouped.modules() if isinstance(module, Mixing)]
    assert mixings
    assert all(type(module) is GroupedMixing for module in mixings)
    assert_same(grouped, any_network)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_says_yes_or_no(dtype):
    assert heads_pass(dtype) in (True, False)
