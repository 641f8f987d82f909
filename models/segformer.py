"""SegFormer (arXiv:2105.15203): the MiT encoder, the all-MLP decode head, the MiT classifier."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.layers.attention import ReducedAttention
from models.layers.heads import ClassifierOutput, activation

MIN_SIDE = 32  # smallest supported input, in pixels; B0 to B5 still work with 29


@dataclass(frozen=True)
class SegformerConfig:
    """Sizes and options of a SegFormer; tuples have a value per stage, the defaults are MiT-B0.

    `drop_path` is the probability that training skips the last block; it grows linearly from 0.
    `norm_eps` is of the norms of blocks and stages. `aligned_upsampling`: see `Segformer`.

    Raises:
        ValueError: the sizes do not fit together.
    """

    depths: tuple[int, ...] = (2, 2, 2, 2)
    hidden_sizes: tuple[int, ...] = (32, 64, 160, 256)
    num_heads: tuple[int, ...] = (1, 2, 5, 8)
    sr_ratios: tuple[int, ...] = (8, 4, 2, 1)
    patch_sizes: tuple[int, ...] = (7, 3, 3, 3)
    strides: tuple[int, ...] = (4, 2, 2, 2)
    mlp_ratios: tuple[int, ...] = (4, 4, 4, 4)
    decoder_hidden_size: int = 256
    num_channels: int = 3
    num_labels: int = 150
    hidden_act: str = "gelu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.1
    drop_path: float = 0.1
    norm_eps: float = 1e-5
    aligned_upsampling: bool = False

    def __post_init__(self) -> None:
        per_stage = (self.hidden_sizes, self.num_heads, self.sr_ratios, self.patch_sizes)
        if any(len(v) != len(self.depths) for v in (*per_stage, self.strides, self.mlp_ratios)):
            raise ValueError(f"not every field has {len(self.depths)} stages, as depths has")
        if self.num_channels < 1:
            raise ValueError(f"num_channels is {self.num_channels}, not 1 or more")
        for width, heads in zip(self.hidden_sizes, self.num_heads, strict=True):
            if width % heads:
                raise ValueError(f"hidden size {width} is not a multiple of {heads} heads")


class PatchEmbedding(nn.Module):
    """Overlapping patch merging with stride s: (B, C_in, H, W) -> (B, ceil(H / s), ceil(W / s), C).

    A strided convolution with a kernel larger than the stride, then a LayerNorm (section 3.1).
    """

    def __init__(self, in_channels: int, width: int, patch_size: int, stride: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, width, patch_size, stride, patch_size // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.projection(x).permute(0, 2, 3, 1))  # (B, H / s, W / s, C)


class MixFFN(nn.Module):
    """Mix-FFN: an MLP with a depthwise 3 x 3 convolution that provides positions (section 3.1).

    Maps a token grid (B, H, W, C) to the same shape.
    """

    def __init__(self, width: int, mlp_size: int, config: SegformerConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(width, mlp_size)
        self.depthwise = nn.Conv2d(mlp_size, mlp_size, 3, padding=1, groups=mlp_size)
        self.activation = activation(config.hidden_act)
        self.contract = nn.Linear(mlp_size, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x).permute(0, 3, 1, 2)  # (B, mlp_size, H, W)
        x = self.activation(self.depthwise(x)).permute(0, 2, 3, 1)  # (B, H, W, mlp_size)
        return self.dropout(self.contract(self.dropout(x)))  # (B, H, W, C)


class DropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382): training zeroes a residual branch for random images."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) < keep  # (B, 1, 1, 1)
        return x * kept / keep  # (B, H, W, C)


class Block(nn.Module):
    """A pre-norm block, efficient self-attention and Mix-FFN: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, stage: int, drop_path: float, config: SegformerConfig) -> None:
        super().__init__()
        C = config.hidden_sizes[stage]
        self.norm_1 = nn.LayerNorm(C, config.norm_eps)
        self.attention = ReducedAttention(
            C, config.num_heads[stage], config.sr_ratios[stage], dropout=config.attention_dropout
        )
        self.norm_2 = nn.LayerNorm(C, config.norm_eps)
        self.mlp = MixFFN(C, C * config.mlp_ratios[stage], config)
        self.dropout = nn.Dropout(config.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.dropout(self.attention(self.norm_1(x))))  # (B, H, W, C)
        return x + self.drop_path(self.mlp(self.norm_2(x)))  # (B, H, W, C)


class Stage(nn.Module):
    """Patch embedding, blocks and a LayerNorm: (B, C_in, H, W) -> (B, C, H / s, W / s)."""

    def __init__(self, stage: int, drop_paths: list[float], config: SegformerConfig) -> None:
        super().__init__()
        C = config.hidden_sizes[stage]
        C_in = config.hidden_sizes[stage - 1] if stage else config.num_channels
        patch_size, stride = config.patch_sizes[stage], config.strides[stage]
        self.patch_embedding = PatchEmbedding(C_in, C, patch_size, stride)
        self.blocks = nn.ModuleList(Block(stage, rate, config) for rate in drop_paths)
        self.norm = nn.LayerNorm(C, config.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embedding(x)  # (B, H / s, W / s, C)
        for block in self.blocks:
            x = block(x)  # (B, H / s, W / s, C)
        return self.norm(x).permute(0, 3, 1, 2)  # (B, C, H / s, W / s)


class MiT(nn.Module):
    """The Mix Transformer encoder: `forward(pixels)` maps (B, C, H, W) to each stage's features.

    C is `num_channels`. Stage i gives (B, C_i, H_i, W_i), finest first: (ceil(H / 4), ceil(W / 4))
    at the first stage, half of that, rounded up, at each further stage. H and W are at least
    MIN_SIDE.
    """

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        depth = sum(config.depths)
        rates = iter([config.drop_path * i / max(depth - 1, 1) for i in range(depth)])
        self.stages = nn.ModuleList(
            Stage(stage, [next(rates) for _ in range(blocks)], config)
            for stage, blocks in enumerate(config.depths)
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        features = []
        x = pixels
        for stage in self.stages:
            x = stage(x)  # (B, C_i, H_i, W_i)
            features.append(x)
        return features


class DecodeHead(nn.Module):
    """The all-MLP decoder: stage features (B, C_i, H_i, W_i) to logits (B, num_labels, H_1, W_1).

    A linear layer per stage, bilinear upsampling to the finest stage, then a fusing layer
    (section 3.2).
    """

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        D = config.decoder_hidden_size
        self.projections = nn.ModuleList(nn.Linear(C, D) for C in config.hidden_sizes)
        self.fuse = nn.Conv2d(D * len(config.hidden_sizes), D, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(D)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.head = nn.Conv2d(D, config.num_labels, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        size = features[0].shape[2:]
        levels = []
        for projection, x in zip(self.projections, features, strict=True):
            x = projection(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, D, H_i, W_i)
            levels.append(interpolate(x, size, mode="bilinear", align_corners=False))
        x = self.fuse(torch.cat(levels[::-1], dim=1))  # (B, D, H_1, W_1); coarsest stage first
        x = self.dropout(torch.relu(self.norm(x)))  # (B, D, H_1, W_1)
        return self.head(x)  # (B, num_labels, H_1, W_1)


class Segformer(nn.Module):
    """`forward(pixels)` maps float (B, C, H, W) to logits (B, num_labels, ceil(H/4), ceil(W/4)).

    C is `num_channels`. H and W are at least MIN_SIDE. With `aligned_upsampling` the network
    resizes the logits to (B, num_labels, H, W), bilinearly with align_corners=True, as
    segmentation-models-pytorch does.
    """

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MiT(config)
        self.decoder = DecodeHead(config)
        self.apply(initialize)

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.decoder(self.encoder(pixels))  # (B, num_labels, H / 4, W / 4)
        if self.config.aligned_upsampling:
            logits = interpolate(logits, pixels.shape[2:], mode="bilinear", align_corners=True)
        return logits


class SegformerClassifier(nn.Module):
    """`forward(pixels)` maps float (B, C, H, W) to logits (B, num_labels).

    C is `num_channels`. The network that pre-trains a MiT encoder: a linear layer on the mean of
    the last stage.
    """

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MiT(config)
        self.head = nn.Linear(config.hidden_sizes[-1], config.num_labels)
        self.apply(initialize)

    def classify(self, pixels: Tensor) -> ClassifierOutput:
        """Logits (B, num_labels), and the embedding (B, C_4) that the head reads."""
        embedding = self.encoder(pixels)[-1].mean(dim=(2, 3))  # (B, C_4)
        return ClassifierOutput(self.head(embedding), embedding)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classify(pixels).logits  # (B, num_labels)


def initialize(module: nn.Module) -> None:
    """Initialize one layer in place, biases with 0.

    Linear weights are normal with deviation 0.02, truncated at two deviations. Convolution weights
    are normal with deviation sqrt(2 / fan-out) (He).
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
    elif isinstance(module, nn.Conv2d) and not module.weight.is_meta:
        # on the meta device, where there are no values, `normal_` would import torch._dynamo: 3 s
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
