"""Multi-head attention: full, axial, and SegFormer's efficient self-attention.

Each class has a method `weights`, which returns the attention weights that its `forward` applies.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Split the channels into heads: (B, N, heads * d) -> (B, heads, N, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Concatenate the heads: (B, heads, N, d) -> (B, N, heads * d)."""
    return x.transpose(1, 2).flatten(2)


def axis_lines(x: Tensor, axis: int) -> Tensor:
    """Make the lines of a token grid dimension 1: (B, H, W, ...) -> (B, lines, tokens, ...).

    The lines are columns with axis 1, rows with axis 2. The function is its own inverse.
    """
    return x.transpose(1, 2) if axis == 1 else x


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
        query = split_heads(self.query(x), self.num_heads)  # (B, heads, N, d)
        key = split_heads(self.key(context), self.num_heads)  # (B, heads, M, d)
        value = split_heads(self.value(context), self.num_heads)  # (B, heads, M, d)
        dropout = self.dropout if self.training else 0.0
        heads = scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout)
        return self.output(join_heads(heads))  # (B, N, D)

    def weights_between(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention weights of `attend`, (B, heads, N, M)."""
        query = split_heads(self.query(x), self.num_heads)  # (B, heads, N, d)
        key = split_heads(self.key(context), self.num_heads)  # (B, heads, M, d)
        return attention_weights(query, key, mask)


class AxisAttention(Attention):
    """Self-attention within each line of a token grid: each column, or each row.

    `forward(x, mask)` maps (B, H, W, D) to the same shape. The boolean mask (B, H, W) is True for
    the tokens to attend to, at least one in each line. This is half of the axial attention of
    arXiv:1912.12180, which has (H W) (H + W) attention weights instead of (H W)^2.
    """

    def __init__(self, width: int, num_heads: int, axis: int, **options: Any) -> None:
        super().__init__(width, num_heads, **options)
        self.axis = axis  # 1: lines are columns, along the height; 2: lines are rows

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        lines = axis_lines(x, self.axis)  # (B, L, T, D)
        if mask is not None:
            mask = axis_lines(mask, self.axis).flatten(0, 1)[:, None, None]  # (B L, 1, 1, T)
        tokens = lines.flatten(0, 1)  # (B L, T, D)
        attended = self.attend(tokens, tokens, mask).view(lines.shape)  # (B, L, T, D)
        return axis_lines(attended, self.axis)  # (B, H, W, D)

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return attention weights (B, heads, H W, H W), which are 0 between different lines."""
        tokens = x.flatten(1, 2)  # (B, H W, D)
        index = torch.arange(x.shape[1] * x.shape[2], device=x.device)
        line = index % x.shape[2] if self.axis == 1 else index // x.shape[2]  # (H W,)
        allowed = line[:, None] == line  # (H W, H W)
        if mask is not None:
            allowed = allowed & mask.flatten(1)[:, None, None]  # (B, 1, H W, H W)
        return self.weights_between(tokens, tokens, allowed)


class AxialAttention(nn.Module):
    """Attention along the height, then along the width: (B, H, W, D) -> (B, H, W, D).

    After both steps each token depends on all tokens (arXiv:1912.12180). The options are those of
    `Attention`.
    """

    def __init__(self, width: int, num_heads: int, **options: Any) -> None:
        super().__init__()
        self.height = AxisAttention(width, num_heads, 1, **options)
        self.width = AxisAttention(width, num_heads, 2, **options)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.width(self.height(x, mask), mask)  # (B, H, W, D)


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
