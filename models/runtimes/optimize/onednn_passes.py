"""Linear layers through oneDNN, with their activation or their residual in the same pass.

Knows nothing of networks. Where torch's default BLAS is slow, as MKL is on processors of AMD, a
product takes less than half the time this way.
"""

import torch
from torch import Tensor, nn

from models.runtimes.optimize import onednn
from models.runtimes.optimize.decoder import RectifiedSum
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.rewriting import rewrite
from models.runtimes.optimize.trial import passes


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
