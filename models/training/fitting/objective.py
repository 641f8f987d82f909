"""Objectives: any of the networks with its loss on a batch, and the teacher of a distillation."""

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate

from models.checkpoint import Checkpoint, require_rgb
from models.preprocessing import Preprocessing, normalize
from models.registry import Network
from models.training.data.examples import IGNORED, Batch
from models.vit import ViT

SPOTS = 2  # points per side of a patch at which the patch head predicts the label


class Learner(nn.Module):
    """A network whose `forward(batch)` returns the mean cross-entropy of its logits, a scalar.

    A segmenter's logits are resized to the label maps, in which 255 is ignored. With `cell` above
    1, the targets are the fractions of cell x cell pixels that each label covers: nearly as exact
    as full size, in less time.

    A network with a distillation head learns with both heads: one from the labels, the other from
    what `teach` returns for the images, uint8 (B, H, W, 3) -> int64 (B,), or from the labels
    without `teach` (arXiv:2012.12877, section 4).

    With `patch_labels` above 0, a ViT classifier also predicts from each patch token the labels at
    SPOTS x SPOTS points of the patch, each one of `patch_labels` labels. The layer that predicts
    them is not part of the network. With this loss, a network learns in minutes what takes hours
    with the first loss alone.

    Raises:
        ValueError: a teacher for a network without a distillation head.
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        teach: Callable[[Tensor], Tensor] | None = None,
        *,
        patch_labels: int = 0,
        cell: int = 1,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.teach = teach
        self.cell = cell
        self.patch_head: nn.Linear | None = None
        if patch_labels and isinstance(network, ViT):
            self.patch_head = nn.Linear(network.config.hidden_size, SPOTS**2 * patch_labels)
        if teach is not None and not has_distillation_head(network):
            raise ValueError(
                "only a network with a distillation head, such as deit-s/16, can have a teacher"
            )

    def forward(self, batch: Batch) -> Tensor:
        network, pixels = self.network, normalize(batch.images, self.preprocessing)  # (B, 3, H, W)
        if has_distillation_head(network):
            taught = batch.truth if self.teach is None else self.teach(batch.images)
            x = network.features(pixels)  # (B, 2 + N, D)
            whole = cross_entropy(network.head(x[:, 0]), batch.truth)
            return (whole + cross_entropy(network.distillation_head(x[:, 1]), taught)) / 2
        if self.patch_head and batch.label_maps is not None and isinstance(network, ViT):
            x = network.features(pixels)  # (B, 1 + N, D)
            spots = self.patch_head(x[:, 1:])  # (B, N, SPOTS * SPOTS * K)
            patches = patch_loss(spots, batch.label_maps, network.config.grid)
            return cross_entropy(network.head(x[:, 0]), batch.truth) + patches
        logits = network(pixels)  # (B, K) or (B, K, h, w)
        if logits.ndim == 2:
            return cross_entropy(logits, batch.truth)
        size = [side // self.cell for side in batch.truth.shape[1:]]
        logits = interpolate(logits, size, mode="bilinear", align_corners=False)  # (B, K, H, W)
        if self.cell > 1:
            return cross_entropy(logits, label_fractions(batch.truth, logits.shape[1], self.cell))
        return cross_entropy(logits, batch.truth.long(), ignore_index=IGNORED)


def patch_loss(logits: Tensor, label_maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the loss of the patch head: logits (B, N, SPOTS * SPOTS * K), label maps (B, H, W)."""
    logits = logits.unflatten(2, (SPOTS, SPOTS, -1)).unflatten(1, grid)
    logits = logits.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (B, K, rows, columns)
    step = label_maps.shape[1] // (grid[0] * SPOTS)  # pixels between two points
    truth = label_maps[:, step // 2 :: step, step // 2 :: step]  # (B, rows, columns)
    return cross_entropy(logits, truth.long())


def label_fractions(label_maps: Tensor, num_labels: int, cell: int) -> Tensor:
    """Return the fraction of each cell that a label covers: (B, H, W) -> (B, K, H/cell, W/cell)."""
    each = [(label_maps == label).float() for label in range(num_labels)]  # K x (B, H, W)
    return avg_pool2d(torch.stack(each, dim=1), cell)


def has_distillation_head(network: Network) -> TypeGuard[ViT]:
    """Return whether the network is a ViT with a second head for distillation, like DeiT."""
    return isinstance(network, ViT) and network.config.distillation_head


class Teacher:
    """`teacher(images)` maps uint8 (B, H, W, 3) to the teacher's best labels, int64 (B,).

    The teacher receives the same augmented images as the network in training, at the teacher's own
    size and with its own normalization: DeiT's hard distillation (arXiv:2012.12877, section 4).

    Raises:
        CheckpointError: the teacher does not take RGB images.
        ValueError: the teacher has other labels than the data, or is not a classifier with a fixed
            input size.
    """

    def __init__(
        self, checkpoint: Checkpoint, labels: tuple[str, ...], device: torch.device
    ) -> None:
        require_rgb(checkpoint)
        if checkpoint.labels != labels:
            raise ValueError(f"the teacher {checkpoint.name} has other labels than the data")
        size = checkpoint.preprocessing.input_size
        if size is None or checkpoint.task != "classify":
            raise ValueError(
                f"{checkpoint.name} cannot teach: it is not a classifier with a fixed input size"
            )
        self.size, self.preprocessing = size, checkpoint.preprocessing
        self.network = checkpoint.network.to(device).eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float()  # (B, 3, H, W), 0 to 255
        if images.shape[1:3] != self.size:
            pixels = interpolate(
                pixels, self.size, mode="bilinear", align_corners=False, antialias=True
            )
        resized = pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1)  # (B, H, W, 3)
        return self.network(normalize(resized, self.preprocessing)).argmax(1)  # (B,)
