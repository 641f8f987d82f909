"""Multi-head attention: full, axial, and SegFormer's efficient self-attention.

Each class has a method `weights`, which returns the attention weights that its `forward` applies.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Split the channels into heads: (B, N, heads * d) -> (B, heads, N, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Concatenate the heads: (B, heads, N, d) -> (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


class GridMask(NamedTuple):
    """The mask of axial attention for K prefix tokens and a token grid, row by row.

    Attributes:
        grid: rows and columns, H and W; N is H W.
        keep: bool (B, K + N), True for the tokens to attend to, at least one in each line with the
            prefix tokens; None: all.
    """

    grid: tuple[int, int]
    keep: Tensor | None = None


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) of "Attention is all you need" (1706.03762), equation 1.

    Args:
        query: (..., N, d).
        key: (..., M, d).
        mask: broadcasts to (..., N, M). A boolean mask is True for the keys to attend to; a float
            mask is added to the attention logits.

    Returns:
        Attention weights (..., N, M); each row sums to 1.
    """
    logits = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (..., N, M)
    if mask is not None:
        boolean = mask.dtype == torch.bool
        logits = logits.masked_fill(~mask, -torch.inf) if boolean else logits + mask
    return logits.softmax(dim=-1)


def prefix_and_lines(x: Tensor, grid: tuple[int, int], axis: int) -> tuple[Tensor, Tensor]:
    """Separate prefix tokens and the grid's lines: (B, K + N, ...) -> (B, K, ...), (B, L, T, ...).

    The L lines of T tokens are columns with axis 1, rows with axis 2.
    """
    prefix, patches = x.tensor_split([x.shape[1] - grid[0] * grid[1]], dim=1)
    lines = patches.unflatten(1, grid)  # (B, H, W, ...)
    return prefix, lines.transpose(1, 2) if axis == 1 else lines


def keys_of_lines(x: Tensor, grid: tuple[int, int], axis: int) -> Tensor:
    """Return what each line attends to, prefix and line: (B, K + N, ...) -> (B L, K + T, ...)."""
    prefix, lines = prefix_and_lines(x, grid, axis)
    if prefix.shape[1]:
        repeated = prefix[:, None].expand(-1, lines.shape[1], *prefix.shape[1:])  # (B, L, K, ...)
        lines = torch.cat([repeated, lines], dim=2)  # (B, L, K + T, ...)
    return lines.flatten(0, 1)


def attend_in_lines(
    attend: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: GridMask,
    axis: int,
) -> Tensor:
    """Attend within each line of a token grid, see `AxisAttention`; keeps the shape (B, K + N, C).

    Args:
        attend: attention of queries (B, N, C) with keys, values (B, M, C) and a mask (B, 1, 1, M).
        query: queries of all tokens, (B, K + N, C).
        key: keys of all tokens.
        value: values of all tokens.
        mask: the grid, and the tokens to attend to.
        axis: 1: lines are columns; 2: lines are rows.
    """
    grid, keep = mask
    prefix, lines = prefix_and_lines(query, grid, axis)  # (B, K, C), (B, L, T, C)
    keys, values = (keys_of_lines(x, grid, axis) for x in (key, value))  # (B L, K + T, C)
    kept = None if keep is None else keys_of_lines(keep, grid, axis)[:, None, None]
    x = attend(lines.flatten(0, 1), keys, values, kept)  # (B L, T, C)
    x = x.unflatten(0, (-1, lines.shape[1]))  # (B, L, T, C)
    x = (x.transpose(1, 2) if axis == 1 else x).flatten(1, 2)  # (B, N, C)
    if not prefix.shape[1]:
        return x
    kept = None if keep is None else keep[:, None, None]  # (B, 1, 1, K + N)
    return torch.cat([attend(prefix, key, value, kept), x], dim=1)  # (B, K + N, C)


class Attention(nn.Module):
    """Multi-head self-attention (arXiv:1706.03762).

    `forward(x, mask)` maps (B, N, D) to the same shape. Each head has d channels: `head_dim`, or
    D / num_heads without it. The mask broadcasts to (B, heads, N, N) and is interpreted as in
    `attention_weights`. `dropout` is the rate at which training drops attention weights.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        inner = num_heads * (width // num_heads if head_dim is None else head_dim)
        self.query = nn.Linear(width, inner, bias=qkv_bias)
        self.key = nn.Linear(width, inner, bias=qkv_bias)
        self.value = nn.Linear(width, inner, bias=qkv_bias)
        self.output = nn.Linear(inner, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attend(x, x, mask)  # (B, N, D)

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention weights of `forward`, (B, heads, N, N)."""
        return self.weights_between(x, x, mask)

    def attend(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries come from x (B, N, D), keys and values from context (B, M, D): (B, N, D)."""
        query, key, value = self.query(x), self.key(context), self.value(context)
        return self.output(self.heads(query, key, value, mask))  # (B, N, D)

    def heads(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return the output of every head: (B, N, heads * d), twice (B, M, ...) -> the first."""
        query = split_heads(query, self.num_heads)  # (B, heads, N, d)
        key = split_heads(key, self.num_heads)  # (B, heads, M, d)
        value = split_heads(value, self.num_heads)  # (B, heads, M, d)
        dropout = self.dropout if self.training else 0.0
        heads = scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout)
        return join_heads(heads)  # (B, N, heads * d)

    def weights_between(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention weights of `attend`, (B, heads, N, M)."""
        query = split_heads(self.query(x), self.num_heads)  # (B, heads, N, d)
        key = split_heads(self.key(context), self.num_heads)  # (B, heads, M, d)
        return attention_weights(query, key, mask)


class AxisAttention(Attention):
    """Self-attention within each line of a token grid: each column, or each row.

    `forward(x, mask)` maps K prefix tokens and N grid tokens (B, K + N, D) to the same shape. A
    grid token attends to its line and to the prefix tokens; a prefix token, such as the class
    token, attends to all tokens. This is half of the axial attention of arXiv:1912.12180, which has
    N (H + W) attention weights instead of N^2; the paper has no prefix tokens.
    """

    def __init__(self, width: int, num_heads: int, axis: int, **options: Any) -> None:
        super().__init__(width, num_heads, **options)
        self.axis = axis  # 1: lines are columns, along the height; 2: lines are rows

    def forward(self, x: Tensor, mask: GridMask) -> Tensor:  # type: ignore[override]  # the grid
        query, key, value = self.query(x), self.key(x), self.value(x)  # each (B, K + N, heads d)
        heads = attend_in_lines(self.heads, query, key, value, mask, self.axis)
        return self.output(heads)  # (B, K + N, D)

    def weights(self, x: Tensor, mask: GridMask) -> Tensor:  # type: ignore[override]
        """Return attention weights (B, heads, K + N, K + N), 0 between different lines."""
        rows, columns = mask.grid
        cell = torch.arange(x.shape[1], device=x.device) - (x.shape[1] - rows * columns)
        prefix = cell < 0  # (K + N,)
        line = cell % columns if self.axis == 1 else cell // columns  # (K + N,)
        allowed = (line[:, None] == line) | prefix[:, None] | prefix  # (K + N, K + N)
        if mask.keep is not None:
            allowed = allowed & mask.keep[:, None, None]  # (B, 1, K + N, K + N)
        return self.weights_between(x, x, allowed)


class AxialAttention(nn.Module):
    """Attention along the height, then along the width: keeps the shape (B, K + N, D).

    After both steps each token depends on all tokens (arXiv:1912.12180). The options are those of
    `Attention`.
    """

    def __init__(self, width: int, num_heads: int, **options: Any) -> None:
        super().__init__()
        self.height = AxisAttention(width, num_heads, 1, **options)
        self.width = AxisAttention(width, num_heads, 2, **options)

    def forward(self, x: Tensor, mask: GridMask) -> Tensor:
        return self.width(self.height(x, mask), mask)  # (B, K + N, D)


class SequenceReduction(nn.Module):
    """A strided convolution, then LayerNorm: one token for each ratio x ratio cell of a token grid.

    Maps (B, H, W, D) to (B, H // ratio, W // ratio, D); rows and columns that do not fill a cell
    are ignored. From PVT (arXiv:2102.12122, section 3.3), used by SegFormer.
    """

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, kernel_size=ratio, stride=ratio)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x.permute(0, 3, 1, 2))  # (B, D, H / r, W / r)
        return self.norm(x.permute(0, 2, 3, 1))  # (B, H / r, W / r, D)


class ReducedAttention(Attention):
    """Efficient self-attention of SegFormer (arXiv:2105.15203, section 3.1).

    `forward(x)` maps a token grid (B, H, W, D) to the same shape. Keys and values come from the
    reduced grid, so there are (H W)^2 / ratio^2 attention weights instead of (H W)^2. With ratio 1
    this is full self-attention.
    """

    def __init__(self, width: int, num_heads: int, ratio: int, *, dropout: float = 0.0) -> None:
        super().__init__(width, num_heads, dropout=dropout)
        self.ratio = ratio
        self.reduction = SequenceReduction(width, ratio) if ratio > 1 else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = x.flatten(1, 2)  # (B, H W, D)
        context = self.reduction(x).flatten(1, 2)  # (B, H W / ratio^2, D)
        return self.attend(tokens, context, mask).unflatten(1, x.shape[1:3])  # (B, H, W, D)

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the weights of tokens over reduced tokens, (B, heads, H W, H W / ratio^2)."""
        context = self.reduction(x).flatten(1, 2)  # (B, H W / ratio^2, D)
        return self.weights_between(x.flatten(1, 2), context, mask)
