import torch
from torch import nn

from models.runtimes.optimize.rewriting import copied, placed, replaced, rewrite


def network():
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)))


def no_relu(module):
    return nn.Identity() if isinstance(module, nn.ReLU) else None


def test_a_rule_replaces_parts_at_any_depth_of_a_copy():
    plain = network()
    rewritten = rewrite(plain, no_relu)
    assert isinstance(rewritten[1][0], nn.Identity)
    assert isinstance(plain[1][0], nn.ReLU)


def test_the_network_itself_may_be_replaced():
    assert isinstance(rewrite(nn.ReLU(), no_relu), nn.Identity)


def test_a_copy_shares_the_memory_of_its_tensors_and_asks_for_no_gradient():
    plain = network()
    rewritten = rewrite(plain, no_relu)
    assert rewritten[0].weight.data_ptr() == plain[0].weight.data_ptr()
    assert not rewritten[0].weight.requires_grad
    assert plain[0].weight.requires_grad


def test_a_missing_part_stays_missing():
    plain = nn.Linear(2, 3, bias=False)
    plain.register_module("nothing", None)
    plain.register_buffer("empty", None)
    for twin in (rewrite(plain, no_relu), placed(plain, torch.device("cpu"), torch.float32)):
        assert twin.nothing is None
        assert twin.empty is None
        assert twin.bias is None


def test_a_part_is_replaced_by_its_path():
    plain = network()
    assert isinstance(replaced(plain, "1.0", nn.Tanh())[1][0], nn.Tanh)
    assert isinstance(plain[1][0], nn.ReLU)


def test_a_copied_module_takes_other_parts_without_the_original():
    plain = network()
    twin = copied(plain)
    twin._modules["0"] = nn.Identity()
    assert isinstance(plain[0], nn.Linear)


def test_placing_converts_what_is_floating_and_leaves_the_original():
    plain = network()
    twin = placed(plain, torch.device("cpu"), torch.bfloat16)
    assert twin[0].weight.dtype == twin[1][1].running_mean.dtype == torch.bfloat16
    assert twin[1][1].num_batches_tracked.dtype == torch.int64
    assert plain[0].weight.dtype == torch.float32


def test_placing_copies_nothing_that_is_there_already():
    plain = network()
    twin = placed(plain, torch.device("cpu"), torch.float32)
    assert twin[0].weight.data_ptr() == plain[0].weight.data_ptr()
