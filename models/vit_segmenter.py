"""A segmenting ViT: a linear head turns each patch token into the logits of the patch's pixels.

The design and the default sizes come from "Efficient Image Segmentation Using PyTorch: Part 4"
(D. Aggarwal, 2023).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers.attention import GridMask
from models.layers.patch_embedding import LinearPatches, unpatchify
from models.layers.positions import Grid, resample
from models.vit import Encoder, EncoderConfig


@dataclass(frozen=True, kw_only=True)
class ViTSegmenterConfig(EncoderConfig):
    """Sizes and options of a segmenting ViT.

    `image_size` is the (height, width) of training; position embeddings are resampled for other
    sizes.

    Raises:
        ValueError: the sizes do not fit together.
    """

    num_heads: int = 8
    layer_norm_eps: float = 1e-5
    dropout: float = 0.2
    attention_dropout: float = 0.2
    image_size: tuple[int, int] = (128, 128)
    patch_size: int = 16
    num_channels: int = 3
    num_labels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_channels < 1:
            raise ValueError(f"num_channels is {self.num_channels}, not 1 or more")
        if min(self.image_size) < self.patch_size:
            raise ValueError(f"a patch of {self.patch_size} px exceeds the image {self.image_size}")

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches at the training size."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size


class ViTSegmenter(nn.Module):
    """`forward(pixels)` maps float (B, C, H, W) to logits (B, num_labels, H, W).

    C is `num_channels`. H and W are at least one patch. Pixels at the right and lower edge that do
    not fill a patch are cut off, and the logits are smaller by them. There is no class token and no
    final LayerNorm. A BatchNorm of the input replaces a fixed mean and standard deviation.
    """

    def __init__(self, config: ViTSegmenterConfig) -> None:
        super().__init__()
        self.config = config
        D, P = config.hidden_size, config.patch_size
        N = config.grid[0] * config.grid[1]
        self.norm = nn.BatchNorm2d(config.num_channels)
        self.patch_embedding = LinearPatches(D, P, config.num_channels)
        self.positions = nn.Parameter(torch.randn(1, N, D))
        self.encoder = Encoder(config)
        self.head = nn.Linear(D, config.num_labels * P * P)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(self.norm(pixels))  # (B, rows, columns, D)
        grid = (patches.shape[1], patches.shape[2])
        x = patches.flatten(1, 2) + resample(self.positions, self.config.grid, grid)  # (B, N, D)
        x = self.encoder(x, None if self.config.attention == "full" else GridMask(grid))
        patches = self.head(x).unflatten(1, grid)  # (B, rows, columns, num_labels P P)
        return unpatchify(patches, self.config.patch_size)  # (B, num_labels, H, W)
