"""SegFormer (arXiv:2105.15203): the MiT encoder with an all-MLP decode head, or a classifier's.

Knows nothing of checkpoints, labels or images.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.layers.heads import Classified
from models.mit import MiT, SegformerConfig, initialize


class DecodeHead(nn.Module):
    """The stages' features, each (B, C_i, H_i, W_i), to logits (B, num_labels, H_1, W_1)."""

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
        x = self.fuse(torch.cat(levels[::-1], dim=1))  # (B, D, H_1, W_1), from the deepest stage on
        x = self.dropout(torch.relu(self.norm(x)))  # (B, D, H_1, W_1)
        return self.head(x)  # (B, num_labels, H_1, W_1)


class Segformer(nn.Module):
    """`forward(pixels)` maps float (B, 3, H, W) to logits (B, num_labels, ceil(H/4), ceil(W/4)).

    H and W are as `MiT` takes them.
    """

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MiT(config)
        self.decoder = DecodeHead(config)
        self.apply(initialize)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.decoder(self.encoder(pixels))  # (B, num_labels, H / 4, W / 4)


class SegformerClassifier(nn.Module):
    """`forward(pixels)` maps float (B, 3, H, W) to logits (B, num_labels).

    The head that MiT encoders are pre-trained with: the mean of the last stage, a linear layer.
    """

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MiT(config)
        self.head = nn.Linear(config.hidden_sizes[-1], config.num_labels)
        self.apply(initialize)

    def classify(self, pixels: Tensor) -> Classified:
        """The logits (B, num_labels), and the embedding that they are read from, (B, C_4)."""
        embedding = self.encoder(pixels)[-1].mean(dim=(2, 3))  # (B, C_4)
        return Classified(self.head(embedding), embedding)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classify(pixels).logits  # (B, num_labels)
