"""The Vision Transformer (ViT) classifier of arXiv:2010.11929, and its forms DeiT and DINOv2."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.layers.attention import Attention, AxialAttention, GridMask
from models.layers.heads import ClassifierOutput, MLPHead
from models.layers.mlp import KINDS as MLP_KINDS
from models.layers.mlp import MLP, SwiGLU
from models.layers.patch_embedding import ORDERED, PATCH_EMBEDDINGS, PatchOrder
from models.layers.positions import (
    KINDS,
    Grid,
    RelativeBias,
    resample,
    sinusoid_1d,
    sinusoid_2d,
)

CHOICES = {  # allowed values of the config fields that name an option
    "patch_embedding": tuple(PATCH_EMBEDDINGS),
    "patch_order": get_args(PatchOrder),
    "positions": KINDS,
    "pooling": ("class", "mean", "class_mean"),
    "head": ("linear", "mlp"),
}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes and options of a transformer encoder, by default the sizes and options of ViT-B.

    A head has `head_dim` channels, or hidden_size / num_heads without it. The MLP "swiglu" has
    gates of the activation SiLU instead of `hidden_act`.

    With axial attention the encoder's mask is a `GridMask`, which also says where the tokens lie.

    Raises:
        ValueError: the sizes do not fit together, or an option is unknown.
    """

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    head_dim: int | None = None
    mlp_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    attention: Literal["full", "axial"] = "full"
    mlp: Literal["plain", "swiglu"] = "plain"

    def __post_init__(self) -> None:
        if self.head_dim is None and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of {self.num_heads} heads"
            )
        if self.head_dim is not None and self.head_dim < 1:
            raise ValueError(f"head_dim is {self.head_dim}, not 1 or more")
        if self.attention not in ("full", "axial"):
            raise ValueError(f"attention is {self.attention!r}, not full or axial")
        if self.mlp not in MLP_KINDS:
            raise ValueError(f"mlp is {self.mlp!r}, not one of {', '.join(MLP_KINDS)}")


@dataclass(frozen=True, kw_only=True)
class ViTConfig(EncoderConfig):
    """Sizes and options of a ViT, by default the sizes and options of ViT-B/16.

    `image_size` is the (height, width) of training; position embeddings are resampled for other
    sizes. `patch_order` is the order in which linear and normalized patches read the values of a
    patch: (channel, row, column), or (row, column, channel).

    With pooling "mean" the head reads the mean of the patch tokens, and there is no class token.
    DeiT (arXiv:2012.12877) adds a distillation token, and optionally a second head that reads it.

    With pooling "class_mean" the head reads the class token and the mean of the patch tokens, 2 D
    numbers, as in DINOv2 (arXiv:2304.07193). Registers (arXiv:2309.16588) are learned tokens
    without positions, which no head reads. With `antialias`, positions are resampled for a coarser
    grid with antialiasing.

    Raises:
        ValueError: the sizes or options do not fit together.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    num_channels: int = 3
    num_labels: int = 1000
    patch_embedding: Literal["convolution", "linear", "normalized", "hybrid"] = "convolution"
    patch_order: PatchOrder = "channels_first"
    positions: Literal["learned", "sinusoidal_1d", "sinusoidal_2d", "relative"] = "learned"
    pooling: Literal["class", "mean", "class_mean"] = "class"
    head: Literal["linear", "mlp"] = "linear"
    distillation_token: bool = False
    distillation_head: bool = False
    num_registers: int = 0
    antialias: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} is {value!r}, not one of {', '.join(allowed)}")
        D, P = self.hidden_size, self.patch_size
        conflicts = {
            f"a patch of {P} px exceeds the image {self.image_size}": min(self.image_size) < P,
            f"sinusoidal positions need a hidden_size that is a multiple of 4, not {D}": D % 4
            and self.positions.startswith("sinusoidal"),
            "patch_order channels_last needs linear or normalized patches": self.patch_embedding
            not in ORDERED
            and self.patch_order != "channels_first",
            f"num_channels is {self.num_channels}, not 1 or more": self.num_channels < 1,
            "a distillation head needs the distillation token": self.distillation_head
            and not self.distillation_token,
            "a distillation token needs a class token, not the mean of the patches": (
                self.distillation_token and self.pooling != "class"
            ),
            f"num_registers is {self.num_registers}, not 0 or more": self.num_registers < 0,
            "axial attention and relative positions exclude each other": self.attention == "axial"
            and self.positions == "relative",
        }
        for message, applies in conflicts.items():
            if applies:
                raise ValueError(message)

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches at the training size."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def num_class_tokens(self) -> int:
        """Number of class and distillation tokens, which have positions unlike the registers."""
        return 0 if self.pooling == "mean" else 2 if self.distillation_token else 1

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before the patch tokens: class, distillation, registers."""
        return self.num_class_tokens + self.num_registers


class Block(nn.Module):
    """A pre-norm encoder block: x + attention(norm(x)), then x + MLP(norm(x)); keeps the shape."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.layer_norm_eps
        attention = AxialAttention if config.attention == "axial" else Attention
        self.norm_1 = nn.LayerNorm(D, eps=eps)
        self.attention = attention(
            D,
            config.num_heads,
            head_dim=config.head_dim,
            qkv_bias=config.qkv_bias,
            dropout=config.attention_dropout,
        )
        self.norm_2 = nn.LayerNorm(D, eps=eps)
        self.mlp = (
            SwiGLU(D, config.mlp_size)
            if config.mlp == "swiglu"
            else MLP(D, config.mlp_size, config.hidden_act)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | GridMask | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_1(x), mask))  # equation 2
        return x + self.dropout(self.mlp(self.norm_2(x)))  # equation 3


class Encoder(nn.Module):
    """`num_layers` blocks in sequence; each block gets the same mask for its attention."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor, mask: Tensor | GridMask | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x


class ViT(nn.Module):
    """`forward(pixels, mask)` maps float (B, C, H, W) to logits (B, num_labels).

    C is `num_channels`. H and W are at least one patch; pixels at the right and lower edge that do
    not fill a patch are cut off. There are K prefix tokens, the last R of which are registers, and
    N patch tokens of D channels. The optional mask, bool (B, K + N), is True for the tokens that
    attention may attend to.

    Args:
        config: sizes and options.
        encoder: a replacement for `Encoder(config)`; any module that maps (B, K + N, D) and a mask
            to (B, K + N, D).
    """

    def __init__(self, config: ViTConfig, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        D, K, R = config.hidden_size, config.num_prefix_tokens, config.num_registers
        N = config.grid[0] * config.grid[1]
        order = {"order": config.patch_order} if config.patch_embedding in ORDERED else {}
        embedding = PATCH_EMBEDDINGS[config.patch_embedding]
        self.patch_embedding = embedding(D, config.patch_size, config.num_channels, **order)
        if config.num_class_tokens:
            self.class_token = nn.Parameter(torch.zeros(1, 1, D))
        if config.distillation_token:
            self.distillation_token = nn.Parameter(torch.zeros(1, 1, D))
        if R:
            self.registers = nn.Parameter(torch.zeros(1, R, D))
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.zeros(1, K - R + N, D))
        elif config.positions == "relative":
            self.relative_bias = RelativeBias(config.grid, config.num_heads, K)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config) if encoder is None else encoder
        self.norm = nn.LayerNorm(D, eps=config.layer_norm_eps)
        head = MLPHead if config.head == "mlp" else nn.Linear
        self.head = head(2 * D if config.pooling == "class_mean" else D, config.num_labels)
        if config.distillation_head:
            self.distillation_head = head(D, config.num_labels)
        initialize(self)

    def tokens(self, pixels: Tensor) -> tuple[Tensor, Grid]:
        """Embed pixels (B, C, H, W): prefix and patch tokens (B, K + N, D), and the patch grid."""
        patches = self.patch_embedding(pixels)  # (B, rows, columns, D)
        grid = (patches.shape[1], patches.shape[2])
        C = self.config.num_class_tokens
        names = ("class_token", "distillation_token")[:C]
        B = pixels.shape[0]  # len() would fix the batch size when torch.export traces the network
        prefix = [getattr(self, name).expand(B, -1, -1) for name in names]  # each (B, 1, D)
        x = torch.cat([*prefix, patches.flatten(1, 2)], dim=1)  # (B, C + N, D), equation 1
        x = x + self.positions_for(grid, x)
        if self.config.num_registers:
            registers = self.registers.expand(B, -1, -1)  # (B, R, D), without positions
            x = torch.cat([x[:, :C], registers, x[:, C:]], dim=1)  # (B, K + N, D)
        return self.dropout(x), grid

    def positions_for(self, grid: Grid, x: Tensor) -> Tensor:
        """Position embeddings to add to the tokens x (B, C + N, D) of a patch grid.

        x has C class and distillation tokens, without registers. Their learned embeddings do not
        depend on the grid.
        """
        C, D = self.config.num_class_tokens, self.config.hidden_size
        match self.config.positions:
            case "learned":
                prefix, patches = self.positions.tensor_split([C], dim=1)
                patches = resample(patches, self.config.grid, grid, antialias=self.config.antialias)
                return torch.cat([prefix, patches], dim=1)  # (1, C + N, D)
            case "sinusoidal_1d":
                return sinusoid_1d(x.shape[1], D).to(x)  # (C + N, D)
            case "sinusoidal_2d":
                patches = sinusoid_2d(grid, D).to(x)  # (N, D)
                return torch.cat([patches.new_zeros(C, D), patches])  # (C + N, D)
        return x.new_zeros(())  # relative positions are a bias of the attention, see `features`

    def features(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode pixels (B, C, H, W) into normalized tokens (B, K + N, D)."""
        x, grid = self.tokens(pixels)  # (B, K + N, D)
        if self.config.attention == "axial":
            return self.norm(self.encoder(x, GridMask(grid, mask)))  # (B, K + N, D)
        mask = None if mask is None else mask[:, None, None]  # (B, 1, 1, K + N)
        if self.config.positions == "relative":
            bias = self.relative_bias(grid)  # (1, heads, K + N, K + N)
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        return self.norm(self.encoder(x, mask))  # (B, K + N, D)

    def classify(self, pixels: Tensor, mask: Tensor | None = None) -> ClassifierOutput:
        """Logits (B, num_labels), and the embedding that the head reads, see `pooled`."""
        x = self.features(pixels, mask)  # (B, K + N, D)
        embedding = self.pooled(x, mask)
        logits = self.head(embedding)  # (B, num_labels)
        if self.config.distillation_head:
            logits = (logits + self.distillation_head(x[:, 1])) / 2  # (B, num_labels)
        return ClassifierOutput(logits, embedding)

    def pooled(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """From the tokens x (B, K + N, D), class token and/or mean of the patches: (B, D or 2 D).

        The mean excludes patches that the mask, bool (B, K + N), excludes.
        """
        if self.config.pooling == "class":
            return x[:, 0]  # (B, D), equation 4
        patches = x[:, self.config.num_prefix_tokens :]  # (B, N, D)
        if mask is None:
            mean = patches.mean(dim=1)  # (B, D)
        else:
            kept = mask[:, self.config.num_prefix_tokens :, None].to(x)  # (B, N, 1)
            mean = (patches * kept).sum(dim=1) / kept.sum(dim=1)  # (B, D)
        return mean if self.config.pooling == "mean" else torch.cat([x[:, 0], mean], dim=1)

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.classify(pixels, mask).logits  # (B, num_labels)


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """Initialize in place: matrices, tokens and positions normal with deviation 0.02, biases 0.

    The normal distribution is truncated at two deviations.
    """
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
