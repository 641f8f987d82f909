"""The encoder of ViT: pre-norm blocks of attention and MLP, equations 2 and 3 of arXiv:2010.11929.

Knows nothing of images, positions or heads.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from models.layers.activations import activation
from models.layers.attention import Attention, AxialAttention


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What shapes an encoder; the defaults are ViT-B's. ValueError for sizes that do not fit.

    Full attention takes tokens (B, N, D); axial attention takes a grid of them, (B, H, W, D).
    """

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    attention: Literal["full", "axial"] = "full"

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"
            )
        if self.attention not in ("full", "axial"):
            raise ValueError(f"attention is {self.attention!r}, not full or axial")


class MLP(nn.Module):
    """Two linear layers with an activation between, on each token by itself."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.mlp_size)
        self.activation = activation(config.hidden_act)
        self.contract = nn.Linear(config.mlp_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.expand(x))  # (..., mlp_size)
        return self.contract(x)  # (..., D)


class Block(nn.Module):
    """A pre-norm block: x <- x + attention(norm(x)), x <- x + MLP(norm(x)); the shape stays."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.layer_norm_eps
        kind = AxialAttention if config.attention == "axial" else Attention
        self.norm_1 = nn.LayerNorm(D, eps=eps)
        self.attention = kind(
            D, config.num_heads, qkv_bias=config.qkv_bias, dropout=config.attention_dropout
        )
        self.norm_2 = nn.LayerNorm(D, eps=eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_1(x), mask))  # equation 2
        return x + self.dropout(self.mlp(self.norm_2(x)))  # equation 3


class Encoder(nn.Module):
    """`num_layers` blocks, one after the other; the mask goes to each, see `Attention`."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x
