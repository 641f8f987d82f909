import torch
from torch import nn

from models.runtimes.optimize.rewriting import (
    channels_last,
    copy_to,
    rewrite,
    shallow_copy,
    with_submodule,
)


def small_network():
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)))


def no_relu(module):
    return nn.Identity() if isinstance(module, nn.ReLU) else None


def test_a_rule_replaces_modules_at_any_depth_of_a_copy():
    plain = small_network()
    rewritten = rewrite(plain, no_relu)
    assert isinstance(rewritten[1][0], nn.Identity)
    assert isinstance(plain[1][0], nn.ReLU)


def test_the_network_itself_may_be_replaced():
    assert isinstance(rewrite(nn.ReLU(), no_relu), nn.Identity)


def test_a_copy_shares_memory_and_requires_no_gradient():
    plain = small_network()
    rewritten = rewrite(plain, no_relu)
    assert rewritten[0].weight.data_ptr() == plain[0].weight.data_ptr()
    assert not rewritten[0].weight.requires_grad
    assert plain[0].weight.requires_grad


def test_an_absent_child_stays_absent():
    plain = nn.Linear(2, 3, bias=False)
    plain.register_module("nothing", None)
    plain.register_buffer("empty", None)
    for twin in (rewrite(plain, no_relu), copy_to(plain, torch.device("cpu"), torch.float32)):
        assert twin.nothing is None
        assert twin.empty is None
        assert twin.bias is None


def test_a_part_is_replaced_by_its_path():
    plain = small_network()
    assert isinstance(with_submodule(plain, "1.0", nn.Tanh())[1][0], nn.Tanh)
    assert isinstance(plain[1][0], nn.ReLU)


def test_changing_a_shallow_copy_does_not_change_the_original():
    plain = small_network()
    twin = shallow_copy(plain)
    twin._modules["0"] = nn.Identity()
    assert isinstance(plain[0], nn.Linear)


def test_copy_to_converts_floating_point_tensors_of_a_copy():
    plain = small_network()
    twin = copy_to(plain, torch.device("cpu"), torch.bfloat16)
    assert twin[0].weight.dtype == twin[1][1].running_mean.dtype == torch.bfloat16
    assert twin[1][1].num_batches_tracked.dtype == torch.int64
    assert plain[0].weight.dtype == torch.float32


def test_copy_to_shares_tensors_that_need_no_conversion():
    plain = small_network()
    twin = copy_to(plain, torch.device("cpu"), torch.float32)
    assert twin[0].weight.data_ptr() == plain[0].weight.data_ptr()


def test_channels_last_converts_convolution_weights_of_a_copy(network, assert_same):
    plain = network("SegFormer")
    laid_out = channels_last(plain)
    convolutions = [module for module in laid_out.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions
    for layer in convolutions:
        assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    first = plain.encoder.stages[0].patch_embedding.projection
    assert first.weight.is_contiguous()
    assert_same(laid_out, plain)
