"""The Vision Transformer classifier of arXiv:2010.11929, and DeiT's distilled form of it.

Knows nothing of checkpoints, labels or images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.activations import activation
from models.attention import Attention
from models.positions import resample


@dataclass(frozen=True)
class ViTConfig:
    """What shapes a ViT; the defaults are ViT-B/16. ValueError for sizes that do not fit together.

    image_size is the (height, width) the positions are learned for; other sizes resample them.
    DeiT (arXiv:2012.12877) adds a distillation token, and may read a second head from it.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_size: int = 3072
    num_labels: int = 1000
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    distillation_token: bool = False
    distillation_head: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"
            )
        if min(self.image_size) < self.patch_size:
            raise ValueError(f"a patch of {self.patch_size} px exceeds the image {self.image_size}")
        if self.distillation_head and not self.distillation_token:
            raise ValueError("a distillation head needs the distillation token")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches at the trained size."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def num_prefix_tokens(self) -> int:
        """The tokens before the patches: class, and distillation where there is one."""
        return 2 if self.distillation_token else 1


class MLP(nn.Module):
    """Two linear layers with an activation between, on each token by itself."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.mlp_size)
        self.activation = activation(config.hidden_act)
        self.contract = nn.Linear(config.mlp_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.expand(x))  # (B, N, mlp_size)
        return self.contract(x)  # (B, N, D)


class Block(nn.Module):
    """A pre-norm transformer encoder block: (B, N, D) -> (B, N, D)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.layer_norm_eps
        self.norm_1 = nn.LayerNorm(D, eps=eps)
        self.attention = Attention(
            D, config.num_heads, qkv_bias=config.qkv_bias, dropout=config.attention_dropout
        )
        self.norm_2 = nn.LayerNorm(D, eps=eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_1(x)))  # (B, N, D)
        return x + self.dropout(self.mlp(self.norm_2(x)))  # (B, N, D)


class ViT(nn.Module):
    """`forward(pixels)` maps float (B, 3, H, W) to logits (B, num_labels).

    H and W are at least one patch; what does not fill a patch at the right and lower edge is cut.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        D, K, P = config.hidden_size, config.num_prefix_tokens, config.patch_size
        N = config.grid[0] * config.grid[1]
        self.patch_embedding = nn.Conv2d(3, D, kernel_size=P, stride=P)
        self.class_token = nn.Parameter(torch.zeros(1, 1, D))
        if config.distillation_token:
            self.distillation_token = nn.Parameter(torch.zeros(1, 1, D))
        self.positions = nn.Parameter(torch.zeros(1, K + N, D))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(D, eps=config.layer_norm_eps)
        self.head = nn.Linear(D, config.num_labels)
        if config.distillation_head:
            self.distillation_head = nn.Linear(D, config.num_labels)
        self.initialize()

    def initialize(self) -> None:
        """Weights, tokens and positions from a normal of deviation 0.02 cut at two; biases 0."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> tokens (B, K + N, D): the K prefix tokens, then the N patches by row."""
        patches = self.patch_embedding(pixels)  # (B, D, H / P, W / P)
        prefix = [self.class_token]
        if self.config.distillation_token:
            prefix.append(self.distillation_token)
        tokens = [token.expand(len(pixels), -1, -1) for token in prefix]  # K x (B, 1, D)
        x = torch.cat([*tokens, patches.flatten(2).transpose(1, 2)], dim=1)  # (B, K + N, D)
        rows, columns = patches.shape[2:]
        return self.dropout(x + self.positions_for((rows, columns)))

    def positions_for(self, grid: tuple[int, int]) -> Tensor:
        """The learned positions (1, K + N, D) for a grid of N patches; the prefix keeps its own."""
        prefix, patches = self.positions.tensor_split([self.config.num_prefix_tokens], dim=1)
        return torch.cat([prefix, resample(patches, self.config.grid, grid)], dim=1)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> the encoded, normalised tokens (B, K + N, D)."""
        x = self.embed(pixels)  # (B, K + N, D)
        for block in self.blocks:
            x = block(x)  # (B, K + N, D)
        return self.norm(x)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.features(pixels)  # (B, K + N, D)
        logits = self.head(x[:, 0])  # (B, num_labels)
        if self.config.distillation_head:
            logits = (logits + self.distillation_head(x[:, 1])) / 2  # (B, num_labels)
        return logits
