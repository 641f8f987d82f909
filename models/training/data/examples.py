"""Labeled images: one example, a data set, and a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.registry import Task

IGNORED = 255  # in a label map: a pixel without a label, in neither the loss nor the quality
MOST_LABELS = 255  # so that a label map has one byte per pixel

LabelMap = NDArray[np.uint8]


class Example(NamedTuple):
    """An RGB image, and its label or its label map (H, W)."""

    image: Image.Image
    truth: int | LabelMap


class Dataset(Protocol):
    """Examples by index, each read on access."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return a name of the example that is constant and unique."""

    def read(self, index: int) -> Example:
        """Return the decoded example; ValueError with the file's name if it is not usable."""

    def check(self, index: int) -> None:
        """Raise ValueError as `read` would, at less cost."""

    def take(self, indices: Sequence[int]) -> "Dataset":
        """Return a data set of these examples, in this order."""


@dataclass(frozen=True)
class Data:
    """A training set and a held-out set."""

    task: Task
    labels: tuple[str, ...]
    train: Dataset
    held_out: Dataset
    about: str  # text of the model card
    left_out: tuple[str, ...] = ()  # a line for each unusable file


@dataclass(frozen=True)
class Batch:
    """Stacked examples, as a network takes them."""

    images: Tensor  # uint8 (B, H, W, 3), RGB
    truth: Tensor  # int64 (B,) labels, or uint8 (B, h, w) label maps
    label_maps: Tensor | None = None  # uint8 (B, h, w), of a classifier's auxiliary loss

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on the device."""
        label_maps = None if self.label_maps is None else self.label_maps.to(device)
        return Batch(self.images.to(device), self.truth.to(device), label_maps)
