"""Attention with fused projections: one matrix product for query, key and value.

The factor 1 / sqrt(d) of the attention logits is folded into the query's weights.
"""

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from models.layers.attention import (
    Attention,
    AxisAttention,
    GridMask,
    ReducedAttention,
    attend_in_lines,
    join_heads,
    split_heads,
)
from models.runtimes.optimize.dense import Dense, join_linears
from models.runtimes.optimize.rewriting import rewrite


class DotProductAttention(nn.Module):
    """softmax(Q K^T + mask) V of every head: (B, N, D), (B, M, D), (B, M, D) -> (B, N, D).

    D is heads * d here. The mask is as in `models.layers.attention.attention_weights`. Uses torch's
    operators.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (split_heads(x, self.num_heads) for x in (query, key, value))
        heads = scaled_dot_product_attention(query, key, value, mask, scale=1.0)
        return join_heads(heads)  # (B, N, D)


class FusedAttention(nn.Module):
    """`models.layers.attention.Attention` with one product for query, key and value."""

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        layers = [plain.query, plain.key, plain.value]
        self.qkv = join_linears(layers, [query_scale(plain), 1.0, 1.0])
        self.output = Dense.of(plain.output)
        self.dot_product = DotProductAttention(plain.num_heads)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)  # each (B, N, heads * d)
        return self.output(self.dot_product(query, key, value, mask), residual)  # (B, N, D)


class FusedAxisAttention(FusedAttention):
    """`models.layers.attention.AxisAttention` with one product for query, key and value."""

    def __init__(self, plain: AxisAttention) -> None:
        super().__init__(plain)
        self.axis = plain.axis

    def forward(  # type: ignore[override]  # the mask has the grid
        self, x: Tensor, mask: GridMask, residual: Tensor | None = None
    ) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)  # each (B, K + N, heads * d)
        heads = attend_in_lines(self.dot_product, query, key, value, mask, self.axis)
        return self.output(heads, residual)  # (B, K + N, D)


class FusedGridAttention(FusedAttention):
    """`models.layers.attention.ReducedAttention` of ratio 1: full self-attention of a grid."""

    def forward(
        self, x: Tensor, mask: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        residual = None if residual is None else residual.flatten(1, 2)  # (B, H W, D)
        return super().forward(x.flatten(1, 2), mask, residual).unflatten(1, x.shape[1:3])


class ContextAttention(nn.Module):
    """Attention with separate query tokens, and one product for key and value."""

    def __init__(self, query: Dense, key_value: Dense, output: Dense, num_heads: int) -> None:
        super().__init__()
        self.query, self.key_value, self.output = query, key_value, output
        self.dot_product = DotProductAttention(num_heads)

    def attend(
        self, x: Tensor, context: Tensor, mask: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        """Queries come from x (B, N, D), keys and values from context (B, M, D): (B, N, D)."""
        key, value = self.key_value(context).chunk(2, dim=-1)  # each (B, M, heads * d)
        return self.output(self.dot_product(self.query(x), key, value, mask), residual)


class FirstTokensAttention(ContextAttention):
    """Attention of which only the first `count` outputs are needed: (B, N, D) -> (B, count, D)."""

    def __init__(self, fused: FusedAttention, count: int) -> None:
        weight, bias = fused.qkv.weight, fused.qkv.bias
        inner = len(weight) // 3  # heads * d
        super().__init__(
            Dense(weight[:inner], None if bias is None else bias[:inner]),
            Dense(weight[inner:], None if bias is None else bias[inner:]),
            fused.output,
            fused.dot_product.num_heads,
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
            join_linears([plain.query], [query_scale(plain)]),
            join_linears([plain.key, plain.value], [1.0, 1.0]),
            Dense.of(plain.output),
            plain.num_heads,
        )
        self.reduction = plain.reduction

    def forward(
        self, x: Tensor, mask: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        context = self.reduction(x).flatten(1, 2)  # (B, M, D)
        residual = None if residual is None else residual.flatten(1, 2)  # (B, H W, D)
        tokens = self.attend(x.flatten(1, 2), context, mask, residual)  # (B, H W, D)
        return tokens.unflatten(1, x.shape[1:3])  # (B, H, W, D)


def query_scale(plain: Attention) -> float:
    """Return 1 / sqrt(d) for heads of d channels."""
    return float((plain.query.out_features // plain.num_heads) ** -0.5)


def fused_attention(module: nn.Module) -> nn.Module | None:
    """Return the fused form of a plain attention; None for every other module."""
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
    """Fuse query, key and value; in reduced attention, with separate queries, key and value."""
    return rewrite(network, fused_attention)
