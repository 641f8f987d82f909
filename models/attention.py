"""Multi-head attention: full, and with the sequence reduction of SegFormer.

Knows nothing of blocks, configurations or checkpoints.
"""

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, D) -> (B, heads, N, D / heads)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, heads, N, D / heads) -> (B, N, D)."""
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head self-attention ("Attention is all you need", 2017).

    `forward(x)` maps (B, N, D) to the same shape; D must be a multiple of `num_heads`. `dropout`
    acts on the attention weights, in training only.
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

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, x)  # (B, N, D)

    def attend(self, x: Tensor, context: Tensor) -> Tensor:
        """The tokens x (B, N, D) ask, the tokens context (B, M, D) answer: (B, N, D)."""
        query = split_heads(self.query(x), self.num_heads)  # (B, heads, N, D / heads)
        key = split_heads(self.key(context), self.num_heads)  # (B, heads, M, D / heads)
        value = split_heads(self.value(context), self.num_heads)  # (B, heads, M, D / heads)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.output(join_heads(mixed))  # (B, N, D)


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
        self.reduction = SequenceReduction(width, ratio) if ratio > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1, 2)  # (B, H W, D)
        context = self.reduction(x).flatten(1, 2)  # (B, H W / ratio^2, D)
        return self.attend(tokens, context).unflatten(1, x.shape[1:3])  # (B, H, W, D)
