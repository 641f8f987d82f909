"""The heads of attention as the groups of a convolution: all of them in one product of oneDNN.

Knows nothing of the projections before and after. Queries stay as they are, (N, heads d), and the
output is (N, heads d) again: nothing is split, transposed or joined.
"""

import torch
from torch import Tensor, nn

from models.runtimes.optimize import onednn
from models.runtimes.optimize.attention import Mixing
from models.runtimes.optimize.rewriting import rewrite
from models.runtimes.optimize.trial import passes

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
