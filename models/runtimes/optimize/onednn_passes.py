"""Passes that replace linear layers, convolutions and attention heads by oneDNN's operators.

Each pass has a trial `onednn_..._are_faster`. The gain depends on the machine: where torch's
default BLAS is slow, as MKL is on AMD processors, a matrix product takes less than half the time.
"""

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn

from models.runtimes.optimize import onednn
from models.runtimes.optimize.attention import DotProductAttention
from models.runtimes.optimize.blocks import DepthwiseConvolution
from models.runtimes.optimize.decoder import LinearAddReLU
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.onednn import is_correct_and_faster
from models.runtimes.optimize.rewriting import rewrite

MIN_MULTIPLICATIONS = 12_000_000  # per image, for grouped heads; torch's kernel is faster below


class PackedDense(nn.Module):
    """`models.runtimes.optimize.dense.Dense` with packed weights."""

    def __init__(self, plain: Dense) -> None:
        super().__init__()
        self.post_op = onednn.post_op(plain.activation)
        self.activation = plain.activation if self.post_op is None else None
        self.weight = onednn.pack_linear(plain.weight.detach())
        self.bias = plain.bias

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is not None and self.post_op == onednn.NO_POST_OP:
            return onednn.linear_add(x, residual, self.weight, self.bias)
        x = onednn.linear(x, self.weight, self.bias, self.post_op or onednn.NO_POST_OP)
        if self.activation is not None:
            x = self.activation(x)
        return x if residual is None else x + residual


class OneDNNLinearAddReLU(nn.Module):
    """`models.runtimes.optimize.decoder.LinearAddReLU`; the result overwrites the total."""

    def __init__(self, plain: LinearAddReLU) -> None:
        super().__init__()
        self.weight = plain.weight
        self.bias = plain.bias

    def forward(self, x: Tensor, total: Tensor | None = None) -> Tensor:
        if total is None:  # the network has a single stage
            total = x.new_zeros(*x.shape[:-1], len(self.weight))
        return onednn.linear_add_relu_(total, x, self.weight, self.bias)


class LinearTrial(nn.Module):
    """A module for the trial, with each kind of linear layer once: (N, C) -> (N, C)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.expand = Dense(weight, weight[0], nn.GELU())
        self.contract = Dense(weight, weight[1])
        self.sum = LinearAddReLU(weight, weight[2])

    def forward(self, x: Tensor) -> Tensor:
        y = self.contract(self.expand(x), x)[None, None]  # (1, 1, N, C)
        return self.sum(x[None, None], y)[0, 0]


def linears_by_onednn(network: nn.Module) -> nn.Module:
    """Pack every linear layer for oneDNN, with its activation or residual in the same pass."""

    def rule(module: nn.Module) -> nn.Module | None:
        if isinstance(module, LinearAddReLU):
            return OneDNNLinearAddReLU(module)
        if isinstance(module, nn.Linear):
            module = Dense.of(module)
        return PackedDense(module) if isinstance(module, Dense) else None

    return rewrite(network, rule)


@cache  # the machine decides, not the network
def onednn_linears_are_faster(dtype: torch.dtype) -> bool:
    """Try linear layers on the tokens of a SegFormer's third stage for a 512 x 512 image."""
    random = torch.Generator().manual_seed(0)
    weight = (torch.randn(320, 320, generator=random) / 320**0.5).to(dtype)
    plain = LinearTrial(weight)
    x = torch.randn(1024, 320, generator=random).to(dtype)
    return is_correct_and_faster(lambda: linears_by_onednn(plain), plain, x)


class PackedConvolution(nn.Module):
    """A convolution and its activation in one pass: (B, C, H, W) -> (B, D, H', W')."""

    def __init__(self, plain: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        fused = onednn.post_op(activation)
        self.post_op = onednn.NO_POST_OP if fused is None else fused
        self.activation = activation if fused is None else None
        self.plain = plain
        self.weight = onednn.pack_convolution(plain)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        x = onednn.convolution(x, self.weight, self.plain, self.post_op)
        return x if self.activation is None else self.activation(x)


def packed_depthwise(plain: DepthwiseConvolution) -> DepthwiseConvolution:
    """Pack a depthwise convolution, with its activation in the same pass."""
    layer = cast(nn.Conv2d, plain.convolution)
    return DepthwiseConvolution(PackedConvolution(layer, plain.activation), nn.Identity())


def convolutions_by_onednn(network: nn.Module) -> nn.Module:
    """Pack every convolution for oneDNN, depthwise ones with their activation."""

    def rule(module: nn.Module) -> nn.Module | None:
        if isinstance(module, DepthwiseConvolution):
            return packed_depthwise(module)
        return PackedConvolution(module) if isinstance(module, nn.Conv2d) else None

    return rewrite(network, rule)


@cache  # the machine decides, not the network
def onednn_convolutions_are_faster(dtype: torch.dtype) -> bool:
    """Try a depthwise convolution on a token grid of 64 x 64."""
    random = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(128, 128, 3, padding=1, groups=128)
    nn.init.normal_(layer.weight, generator=random)
    plain = DepthwiseConvolution(layer.to(dtype), nn.GELU())
    x = torch.randn(1, 64, 64, 128, generator=random).to(dtype)
    return is_correct_and_faster(lambda: packed_depthwise(plain), plain, x)


class GroupedDotProductAttention(DotProductAttention):
    """`DotProductAttention` image by image, with each head as a group of a convolution.

    Falls back to torch's operators for a mask or for few multiplications.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        _, N, D = query.shape
        if mask is not None or N * key.shape[1] * D < MIN_MULTIPLICATIONS:
            return super().forward(query, key, value, mask)
        images = [self.attend(*image) for image in zip(query, key, value, strict=True)]
        return torch.stack(images) if len(images) > 1 else images[0][None]  # (B, N, D)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend in one image: (N, D), (M, D), (M, D) -> (N, D)."""
        heads = self.num_heads
        keys = key.unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, M, d)
        logits = onednn.grouped_product(query, keys, heads).unflatten(1, (heads, -1))
        weights = torch.softmax(logits, dim=2, out=logits).flatten(1)  # (N, heads M)
        values = value.unflatten(1, (heads, -1)).permute(1, 2, 0)  # (heads, d, M)
        return onednn.grouped_product(weights, values, heads)  # (N, D)


def heads_by_onednn(network: nn.Module) -> nn.Module:
    """Compute the heads of every attention as the groups of one convolution."""

    def rule(module: nn.Module) -> nn.Module | None:
        if type(module) is DotProductAttention:
            return GroupedDotProductAttention(module.num_heads)
        return None

    return rewrite(network, rule)


@cache  # the machine decides, not the network
def onednn_heads_are_faster(dtype: torch.dtype) -> bool:
    """Try four heads of 64 channels on 256 tokens."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 256, 256, generator=random).to(dtype) / 2
    return is_correct_and_faster(
        lambda: GroupedDotProductAttention(4), DotProductAttention(4), *x, None
    )
