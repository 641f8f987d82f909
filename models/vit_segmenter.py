"""A ViT that segments: every patch token gives the logits of its own pixels.

Knows nothing of checkpoints, labels or images. From "Efficient Image Segmentation Using PyTorch:
Part 4" (D. Aggarwal, 2023), whose configuration is the default.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers.patch_embedding import LinearPatches, unpatchify
from models.layers.positions import Grid, resample
from models.vit import Encoder, EncoderConfig


@dataclass(frozen=True, kw_only=True)
class ViTSegmenterConfig(EncoderConfig):
    """What shapes a segmenting ViT. ValueError for sizes that do not fit together.

    image_size is the (height, width) the positions are learned for; other sizes resample them.
    """

    num_heads: int = 8
    layer_norm_eps: float = 1e-5
    dropout: float = 0.2
    attention_dropout: float = 0.2
    image_size: tuple[int, int] = (128, 128)
    patch_size: int = 16
    num_labels: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.image_size) < self.patch_size:
            raise ValueError(f"a patch of {self.patch_size} px exceeds the image {self.image_size}")

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches at the trained size."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size


class ViTSegmenter(nn.Module):
    """`forward(pixels)` maps float (B, 3, H, W) to logits (B, num_labels, H, W).

    H and W are at least one patch; what does not fill a patch at the right and lower edge is cut,
    so that the logits are smaller then. There is neither a class token nor a last LayerNorm; a
    BatchNorm takes the place of a fixed mean and deviation of the input.
    """

    def __init__(self, config: ViTSegmenterConfig) -> None:
        super().__init__()
        self.config = config
        D, P = config.hidden_size, config.patch_size
        N = config.grid[0] * config.grid[1]
        self.norm = nn.BatchNorm2d(3)
        self.patch_embedding = LinearPatches(D, P)
        self.positions = nn.Parameter(torch.randn(1, N, D))
        self.encoder = Encoder(config)
        self.head = nn.Linear(D, config.num_labels * P * P)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(self.norm(pixels))  # (B, rows, columns, D)
        grid = (patches.shape[1], patches.shape[2])
        x = patches.flatten(1, 2) + resample(self.positions, self.config.grid, grid)  # (B, N, D)
        x = x if self.config.attention == "full" else x.unflatten(1, grid)
        x = self.head(self.encoder(x))  # (B, N, num_labels P P)
        patches = x.reshape(*patches.shape[:3], -1)  # (B, rows, columns, num_labels P P)
        return unpatchify(patches, self.config.patch_size)  # (B, num_labels, H, W)
