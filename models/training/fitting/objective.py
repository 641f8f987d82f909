"""A learner: any of the networks, and how wrong it is about a batch.

Does not know optimizers, steps or files.
"""

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from models.checkpoint import Checkpoint
from models.preprocessing import Preprocessing, normalize
from models.registry import Network
from models.training.data.examples import IGNORED, Batch
from models.vit import ViT


class Learner(nn.Module):
    """`forward(batch)` is the mean cross-entropy of the network's answers, a scalar.

    A segmenter's logits are resized to the label maps, whose 255 do not count. Of a network with a
    distillation head each head learns by itself, one the labels and the other what `teach` says of
    the images, uint8 (B, H, W, 3) -> int64 (B,) (arXiv:2012.12877, section 4); without it, the
    labels too. ValueError for a teacher of any other network.
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        teach: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.teach = teach
        if teach is not None and not has_distillation_head(network):
            raise ValueError("only a network with a distillation head, as deit-s/16, has a teacher")

    def forward(self, batch: Batch) -> Tensor:
        pixels = normalize(batch.images, self.preprocessing)  # (B, 3, H, W)
        if has_distillation_head(self.network):
            taught = batch.truth if self.teach is None else self.teach(batch.images)
            x = self.network.features(pixels)  # (B, 2 + N, D)
            whole = cross_entropy(self.network.head(x[:, 0]), batch.truth)
            return (whole + cross_entropy(self.network.distillation_head(x[:, 1]), taught)) / 2
        logits = self.network(pixels)  # (B, K) or (B, K, h, w)
        if logits.ndim == 2:
            return cross_entropy(logits, batch.truth)
        size = batch.truth.shape[1:]
        logits = interpolate(logits, size, mode="bilinear", align_corners=False)  # (B, K, H, W)
        return cross_entropy(logits, batch.truth.long(), ignore_index=IGNORED)


def has_distillation_head(network: Network) -> TypeGuard[ViT]:
    """Whether it is a ViT with a second head, as DeiT is trained."""
    return isinstance(network, ViT) and network.config.distillation_head


class Teacher:
    """`teacher(images)` maps uint8 (B, H, W, 3) to the teacher's best labels, int64 (B,).

    It sees the pictures as the learner does, augmented alike, at its own size and normalised its
    own way: the hard distillation of DeiT (arXiv:2012.12877, section 4). ValueError for a teacher
    of other labels than the data's, or of no one size.
    """

    def __init__(
        self, checkpoint: Checkpoint, labels: tuple[str, ...], device: torch.device
    ) -> None:
        if checkpoint.labels != labels:
            raise ValueError(f"the teacher {checkpoint.name} has other labels than the data")
        size = checkpoint.preprocessing.input_size
        if size is None or checkpoint.task != "classify":
            raise ValueError(f"{checkpoint.name} cannot teach: it is no classifier of one size")
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
