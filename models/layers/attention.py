"""Multi-head attention: full, along the axes of a grid, and with SegFormer's sequence reduction.

Knows nothing of blocks, configurations or checkpoints. Each kind says with `weights` what its
`forward` leaves unsaid: who heeds whom, and how much.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, D) -> (B, heads, N, D / heads)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, N, D / heads) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(2)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) of (..., N, d) and (..., M, d): (..., N, M), rows sum to 1.

    A boolean mask says which keys may be heeded, one of floats is added; it broadcasts.
    "Attention is all you need" (arXiv:1706.03762), equation 1.
    """
    logits = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5  # (..., N, M)
    if mask is not None:
        boolean = mask.dtype == torch.bool
        logits = logits.masked_fill(~mask, -torch.inf) if boolean else logits + mask
    return logits.softmax(dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention (arXiv:1706.03762); with one head, the single-head attention.

    `forward(x, mask)` maps (B, N, D) to the same shape; D must be a multiple of `num_heads`. The
    mask is as in `attention_weights`, for (B, heads, N, N). `dropout` acts on the attention
    weights, in training only.
    """

    def __init__(
        self, width: int, num_heads: int, *, qkv_bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(width, width, bias=qkv_bias)
        self.key = nn.Linear(width, width, bias=qkv_bias)
        self.value = nn.Linear(width, width, bias=qkv_bias)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attend(x, x, mask)  # (B, N, D)

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention weights of `forward`: (B, heads, N, N)."""
        return self.weights_between(x, x, mask)

    def attend(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """The tokens x (B, N, D) ask, the tokens context (B, M, D) answer: (B, N, D)."""
        query = split_heads(self.query(x), self.num_heads)  # (B, heads, N, D / heads)
        key = split_heads(self.key(context), self.num_heads)  # (B, heads, M, D / heads)
        value = split_heads(self.value(context), self.num_heads)  # (B, heads, M, D / heads)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout)
        return self.output(join_heads(mixed))  # (B, N, D)

    def weights_between(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention weights of `attend`: (B, heads, N, M)."""
        query = split_heads(self.query(x), self.num_heads)  # (B, heads, N, D / heads)
        key = split_heads(self.key(context), self.num_heads)  # (B, heads, M, D / heads)
        return attention_weights(query, key, mask)


class AxisAttention(Attention):
    """Attention of a token grid along one axis: every column, or every row, by itself.

    `forward(x, mask)` maps (B, H, W, D) to the same shape; the boolean mask (B, H, W) says which
    tokens may be heeded, at least one on each line. Half of the axial attention of
    arXiv:1912.12180, with (H W) (H + W) weights in place of (H W)^2.
    """

    def __init__(
        self, width: int, num_heads: int, axis: int, *, qkv_bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__(width, num_heads, qkv_bias=qkv_bias, dropout=dropout)
        self.axis = axis  # 1: each column by itself, along the height; 2: each row

    def lines(self, x: Tensor) -> Tensor:
        """Put the lines into the batch: (B, H, W, ...) -> (B, lines, tokens of a line, ...)."""
        return x.transpose(1, 2) if self.axis == 1 else x

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        lines = self.lines(x)  # (B, L, T, D)
        if mask is not None:
            mask = self.lines(mask).flatten(0, 1)[:, None, None]  # (B L, 1, 1, T)
        tokens = lines.flatten(0, 1)  # (B L, T, D)
        return self.lines(self.attend(tokens, tokens, mask).view(lines.shape))  # (B, H, W, D)

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The weights as those of full attention, (B, heads, H W, H W): 0 between lines."""
        tokens = x.flatten(1, 2)  # (B, H W, D)
        index = torch.arange(x.shape[1] * x.shape[2], device=x.device)
        line = index % x.shape[2] if self.axis == 1 else index // x.shape[2]  # (H W,)
        allowed = line[:, None] == line  # (H W, H W)
        if mask is not None:
            allowed = allowed & mask.flatten(1)[:, None, None]  # (B, 1, H W, H W)
        return self.weights_between(tokens, tokens, allowed)


class AxialAttention(nn.Module):
    """Attention along the height, then along the width: (B, H, W, D) -> (B, H, W, D).

    After both every token has heard of every other (arXiv:1912.12180).
    """

    def __init__(
        self, width: int, num_heads: int, *, qkv_bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.height, self.width = (
            AxisAttention(width, num_heads, axis, qkv_bias=qkv_bias, dropout=dropout)
            for axis in (1, 2)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.width(self.height(x, mask), mask)  # (B, H, W, D)


class SequenceReduction(nn.Module):
    """One token for each ratio x ratio cell of the grid: a strided convolution, then LayerNorm.

    Maps (B, H, W, D) to (B, H // ratio, W // ratio, D): rows and columns that do not fill a cell
    are left out. From PVT (arXiv:2102.12122, section 3.3), used by SegFormer.
    """

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, kernel_size=ratio, stride=ratio)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x.permute(0, 3, 1, 2))  # (B, D, H / r, W / r)
        return self.norm(x.permute(0, 2, 3, 1))  # (B, H / r, W / r, D)


class ReducedAttention(Attention):
    """Attention of a token grid over its own reduced grid: (H W)^2 / ratio^2 weights, not (H W)^2.

    `forward(x)` maps (B, H, W, D) to the same shape. With ratio 1 it is full self-attention.
    Efficient self-attention of SegFormer (arXiv:2105.15203, section 3.1).
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
        """Who heeds which cell of the reduced grid: (B, heads, H W, H W / ratio^2)."""
        context = self.reduction(x).flatten(1, 2)  # (B, H W / ratio^2, D)
        return self.weights_between(x.flatten(1, 2), context, mask)
