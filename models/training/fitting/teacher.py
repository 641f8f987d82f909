"""A teacher: a trained classifier whose answers a distillation head learns.

Does not know who learns from it.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.checkpoint import Checkpoint
from models.preprocessing import normalize


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
