"""Attention with its projections fused: query, key and value in one matrix product.

Knows nothing of blocks. The factor 1 / sqrt(d) of the logits stands in the query's weights.
"""

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from models.layers.attention import (
    Attention,
    AxisAttention,
    ReducedAttention,
    join_heads,
    split_heads,
)
from models.runtimes.optimize.dense import Dense, stacked
from models.runtimes.optimize.rewriting import rewrite


class Mixing(nn.Module):
    """softmax(Q K^T + mask) V of every head: (B, N, D), and twice (B, M, D), to (B, N, D).

    The mask is as in `models.layers.attention.attention_weights`. In torch's operators.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (split_heads(x, self.num_heads) for x in (query, key, value))
        mixed = scaled_dot_product_attention(query, key, value, mask, scale=1.0)
        return join_heads(mixed)  # (B, N, D)


def query_scale(plain: Attention) -> float:
    """1 / sqrt(d) for heads of d channels."""
    return float((plain.query.out_features // plain.num_heads) ** -0.5)


class FusedAttention(nn.Module):
    """`models.layers.attention.Attention` with one product for query, key and value."""

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        layers = [plain.query, plain.key, plain.value]
        self.qkv = stacked(layers, [query_scale(plain), 1.0, 1.0])
        self.output = Dense.of(plain.output)
        self.mixing = Mixing(plain.num_heads)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)  # each (B, N, D)
        return self.output(self.mixing(query, key, value, mask), residual)  # (B, N, D)


class FusedAxisAttention(FusedAttention):
    """`models.layers.attention.AxisAttention` with one product for query, key and value."""

    def __init__(self, plain: AxisAttention) -> None:
        super().__init__(plain)
        self.axis = plain.axis

    def lines(self, x: Tensor) -> Tensor:
        """Put the lines into the batch: (B, H, W, ...) -> (B, lines, tokens of a line, ...)."""
        return x.transpose(1, 2) if self.axis == 1 else x

    def forward(
        self, x: Tensor, mask: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        lines = self.lines(x)  # (B, L, T, D)
        if mask is not None:
            mask = self.lines(mask).flatten(0, 1)[:, None, None]  # (B L, 1, 1, T)
        mixed = super().forward(lines.flatten(0, 1), mask).view(lines.shape)  # (B, L, T, D)
        mixed = self.lines(mixed)  # (B, H, W, D)
        return mixed if residual is None else mixed + residual


class ContextAttention(nn.Module):
    """Attention of tokens over others, with one product for key and value."""

    def __init__(self, query: Dense, key_value: Dense, output: Dense, num_heads: int) -> None:
        super().__init__()
        self.query, self.key_value, self.output = query, key_value, output
        self.mixing = Mixing(num_heads)

    def attend(
        self, x: Tensor, context: Tensor, mask: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        """The tokens x (B, N, D) ask, the tokens context (B, M, D) answer: (B, N, D)."""
        key, value = self.key_value(context).chunk(2, dim=-1)  # each (B, M, D)
        return self.output(self.mixing(self.query(x), key, value, mask), residual)  # (B, N, D)


class FirstTokensAttention(ContextAttention):
    """The first `count` tokens ask, all answer: (B, N, D) -> (B, count, D)."""

    def __init__(self, fused: FusedAttention, count: int) -> None:
        weight, bias = fused.qkv.weight, fused.qkv.bias
        D = weight.shape[1]
        super().__init__(
            Dense(weight[:D], None if bias is None else bias[:D]),
            Dense(weight[D:], None if bias is None else bias[D:]),
            fused.output,
            fused.mixing.num_heads,
        )
        self.count = count

    def forward(self, x: Tensor, mask: Tensor | None, residual: Tensor) -> Tensor:
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., : self.count, :]  # (B, heads, count, N)
        return self.attend(x[:, : self.count], x, mask, residual[:, : self.count])


class FusedReducedAttention(ContextAttention):
    """`models.layers.attention.ReducedAttention` with one product for key and value."""

    def __init__(self, plain: ReducedAttention) -> None:
        super().__init__(
            stacked([plain.query], [query_scale(plain)]),
            stacked([plain.key, plain.value], [1.0, 1.0]),
            Dense.of(plain.output),
            plain.num_heads,
        )
        self.reduction = plain.reduction

    def forward(
        self, x: Tensor, mask: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        context = self.reduction(x).flatten(1, 2)  # (B, M, D)
        residual = None if residual is None else residual.flatten(1, 2)  # (B, H W, D)
        mixed = self.attend(x.flatten(1, 2), context, mask, residual)  # (B, H W, D)
        return mixed.unflatten(1, x.shape[1:3])  # (B, H, W, D)


class FusedGridAttention(FusedAttention):
    """`models.layers.attention.ReducedAttention` of ratio 1: full self-attention of a grid."""

    def forward(
        self, x: Tensor, mask: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        residual = None if residual is None else residual.flatten(1, 2)  # (B, H W, D)
        return super().forward(x.flatten(1, 2), mask, residual).unflatten(1, x.shape[1:3])


def fused(module: nn.Module) -> nn.Module | None:
    """The fused form of one of the plain attentions, with the same weights; None for the rest."""
    match module:
        case AxisAttention():
            return FusedAxisAttention(module)
        case ReducedAttention(ratio=1):
            return FusedGridAttention(module)
        case ReducedAttention():
            return FusedReducedAttention(module)
        case Attention():
            return FusedAttention(module)
    return None


def fuse_qkv(network: nn.Module) -> nn.Module:
    """Query, key and value in one product; key and value where the query has other tokens."""
    return rewrite(network, fused)
