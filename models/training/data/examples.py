"""A labelled picture, where many of them come from, and how they are put side by side.

Does not know files, networks or augmentation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.registry import Task

IGNORED = 255  # in a label map: of no label, neither learnt nor counted
MOST_LABELS = 255  # so that a label map is one byte a pixel

LabelMap = NDArray[np.uint8]


class Example(NamedTuple):
    """A picture in RGB, and its label or the label of each of its pixels (H, W)."""

    image: Image.Image
    truth: int | LabelMap


class Dataset(Protocol):
    """Examples by number, each read when it is asked for."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What to call the example, the same each time; no two are called alike."""

    def read(self, index: int) -> Example:
        """The example, decoded; ValueError, with the file's name, for one that cannot be used."""

    def check(self, index: int) -> None:
        """Whether it could be read, at less cost; ValueError as in `read`."""

    def take(self, indices: Sequence[int]) -> "Dataset":
        """Only these examples, in this order."""


@dataclass(frozen=True)
class Data:
    """What is learnt from, what the quality is measured on, and what is told of both."""

    task: Task
    labels: tuple[str, ...]
    train: Dataset
    held_out: Dataset
    about: str  # a sentence for the model card
    left_out: tuple[str, ...] = ()  # a line for each file that cannot be used


@dataclass(frozen=True)
class Batch:
    """Examples side by side, as a network takes them."""

    images: Tensor  # uint8 (B, H, W, 3), RGB
    truth: Tensor  # int64 (B,) labels, or uint8 (B, h, w) label maps
    label_maps: Tensor | None = None  # uint8 (B, h, w), of a classifier's auxiliary loss

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on the device."""
        label_maps = None if self.label_maps is None else self.label_maps.to(device)
        return Batch(self.images.to(device), self.truth.to(device), label_maps)
