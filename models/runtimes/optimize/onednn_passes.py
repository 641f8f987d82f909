"""Linear layers through oneDNN, with their activation or their residual in the same pass.

Knows nothing of networks. Where torch's default BLAS is slow, as MKL is on processors of AMD, a
product takes less than half the time this way.
"""

from typing import cast

import torch
from torch import Tensor, nn

from models.runtimes.optimize import onednn
from models.runtimes.optimize.attention import Mixing
from models.runtimes.optimize.blocks import Depthwise
from models.runtimes.optimize.decoder import RectifiedSum
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.onednn import passes
from models.runtimes.optimize.rewriting import copied, rewrite


class PackedDense(nn.Module):
    """`models.runtimes.optimize.dense.Dense` through oneDNN, its weights packed."""

    def __init__(self, plain: Dense) -> None:
        super().__init__()
        self.fused = onednn.eltwise(plain.activation)
        self.activation = plain.activation if self.fused is None else None
        self.weight = onednn.pack_linear(plain.weight.detach())
        self.bias = plain.bias

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if residual is not None and self.fused == onednn.NONE:
            return onednn.linear_add(x, residual, self.weight, self.bias)
        x = onednn.linear(x, self.weight, self.bias, self.fused or onednn.NONE)
        if self.activation is not None:
            x = self.activation(x)
        return x if residual is None else x + residual


class PackedRectifiedSum(nn.Module):
    """`optimize.decoder.RectifiedSum` through oneDNN, in the memory of the total."""

    def __init__(self, plain: RectifiedSum) -> None:
        super().__init__()
        self.weight = plain.weight
        self.bias = plain.bias

    def forward(self, x: Tensor, total: Tensor | None = None) -> Tensor:
        if total is None:  # of a single stage
            total = x.new_zeros(*x.shape[:-1], len(self.weight))
        return onednn.add_rectified_(total, x, self.weight, self.bias)


def linears_by_onednn(network: nn.Module) -> nn.Module:
    """Every linear layer packed for oneDNN, its activation or residual in the same pass."""

    def rule(module: nn.Module) -> nn.Module | None:
        if isinstance(module, RectifiedSum):
            return PackedRectifiedSum(module)
        if isinstance(module, nn.Linear):
            module = Dense.of(module)
        return PackedDense(module) if isinstance(module, Dense) else None

    return rewrite(network, rule)


class Probe(nn.Module):
    """Each kind of linear layer once, for the trial: (N, C) -> (N, C)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.expand = Dense(weight, weight[0], nn.GELU())
        self.contract = Dense(weight, weight[1])
        self.sum = RectifiedSum(weight, weight[2])

    def forward(self, x: Tensor) -> Tensor:
        y = self.contract(self.expand(x), x)[None, None]  # (1, 1, N, C)
        return self.sum(x[None, None], y)[0, 0]


def linears_pass(dtype: torch.dtype) -> bool:
    """Whether oneDNN has linear layers here, right ones, and quicker than torch's.

    Tried on the tokens of a SegFormer's third stage, for an image of 512 x 512.
    """
    random = torch.Generator().manual_seed(0)
    weight = (torch.randn(320, 320, generator=random) / 320**0.5).to(dtype)
    plain = Probe(weight)
    x = torch.randn(1024, 320, generator=random).to(dtype)
    return passes(lambda: linears_by_onednn(plain), plain, x)


class PackedConvolution(nn.Module):
    """A convolution and its activation in one pass: (B, C, H, W) -> (B, D, H', W')."""

    def __init__(self, plain: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        fused = onednn.eltwise(activation)
        self.fused = onednn.NONE if fused is None else fused
        self.activation = activation if fused is None else None
        self.plain = plain
        self.weight = onednn.pack_convolution(plain)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        x = onednn.convolution(x, self.weight, self.plain, self.fused)
        return x if self.activation is None else self.activation(x)


def packed(plain: Depthwise) -> Depthwise:
    """The activation in the same pass as the convolution."""
    layer = cast(nn.Conv2d, plain.convolution)
    convolution = PackedConvolution(layer, plain.activation)
    return Depthwise(convolution, nn.Identity())


def convolutions_by_onednn(network: nn.Module) -> nn.Module:
    """Every convolution packed for oneDNN, a depthwise one with its activation."""

    def rule(module: nn.Module) -> nn.Module | None:
        if isinstance(module, Depthwise):
            return packed(module)
        return PackedConvolution(module) if isinstance(module, nn.Conv2d) else None

    return rewrite(network, rule)


def convolutions_pass(dtype: torch.dtype) -> bool:
    """Whether oneDNN has depthwise convolutions here, right ones, and quicker than torch's."""
    random = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(128, 128, 3, padding=1, groups=128)
    nn.init.normal_(layer.weight, generator=random)
    plain = Depthwise(layer.to(dtype), nn.GELU())
    x = torch.randn(1, 64, 64, 128, generator=random).to(dtype)
    return passes(lambda: packed(plain), plain, x)


def channels_last(network: nn.Module) -> nn.Module:
    """The weights of every convolution in channels-last layout, so that it copies no token grid."""

    def convert(tensor: Tensor) -> Tensor:
        last = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
        return tensor.detach().contiguous(memory_format=last)

    def rule(module: nn.Module) -> nn.Module | None:
        return copied(module, convert) if isinstance(module, nn.Conv2d) else None

    return rewrite(network, rule)


LEAST_WORK = 12_000_000  # multiplications an image: below, torch's one call a batch is quicker


class GroupedMixing(Mixing):
    """`optimize.attention.Mixing`, image by image, each head a group of a convolution.

    With a mask, or little to do, as the plain form.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        _, N, D = query.shape
        if mask is not None or N * key.shape[1] * D < LEAST_WORK:
            return super().forward(query, key, value, mask)
        images = [self.mix(*image) for image in zip(query, key, value, strict=True)]
        return torch.stack(images) if len(images) > 1 else images[0][None]  # (B, N, D)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """One image: (N, D), (M, D), (M, D) -> (N, D)."""
        heads = self.num_heads
        keys = key.unflatten(1, (heads, -1)).transpose(0, 1)  # (heads, M, d)
        logits = onednn.grouped_product(query, keys, heads).unflatten(1, (heads, -1))
        weights = torch.softmax(logits, dim=2, out=logits).flatten(1)  # (N, heads M)
        values = value.unflatten(1, (heads, -1)).permute(1, 2, 0)  # (heads, d, M)
        return onednn.grouped_product(weights, values, heads)  # (N, D)


def heads_by_onednn(network: nn.Module) -> nn.Module:
    """The heads of every attention as the groups of one convolution of oneDNN."""

    def rule(module: nn.Module) -> nn.Module | None:
        return GroupedMixing(module.num_heads) if type(module) is Mixing else None

    return rewrite(network, rule)


def heads_pass(dtype: torch.dtype) -> bool:
    """Whether the heads come out right as groups here, and sooner than from torch's kernel."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 256, 256, generator=random).to(dtype) / 2
    return passes(lambda: GroupedMixing(4), Mixing(4), *x, None)
