"""Labelled pictures as files, each with its label or with a second file: its mask.

Does not know in which folders they lie, nor which labels there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.preprocessing import to_rgb
from models.training.data.examples import IGNORED, Example, LabelMap

ReadMask = Callable[[Path], LabelMap]
DRAFT = (64, 64)  # pixels: enough of a JPEG to see that it is whole, at a fraction of the cost


@dataclass(frozen=True)
class LabelledFiles:
    """Pictures and the index of each one's label."""

    root: Path
    files: tuple[tuple[Path, int], ...]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        path, label = self.files[index]
        return f"{path.relative_to(self.root).as_posix()} {label}"

    def read(self, index: int) -> Example:
        path, label = self.files[index]
        return Example(read_picture(path), label)

    def check(self, index: int) -> None:
        read_picture(self.files[index][0], draft=True)

    def take(self, indices: Sequence[int]) -> "LabelledFiles":
        return LabelledFiles(self.root, tuple(self.files[index] for index in indices))


@dataclass(frozen=True)
class MaskedFiles:
    """Pictures and the mask of each, a picture of the same size whose values are label indices."""

    root: Path
    files: tuple[tuple[Path, Path], ...]
    read_mask: ReadMask
    num_labels: int

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return self.files[index][0].relative_to(self.root).as_posix()

    def read(self, index: int) -> Example:
        path, mask = self.files[index]
        image, truth = read_picture(path), self.read_mask(mask)
        if truth.shape != (image.height, image.width):
            height, width = truth.shape
            raise ValueError(
                f"{mask} has {width} x {height} pixels, its picture {image.width} x {image.height}"
            )
        labels = truth[truth != IGNORED]
        if labels.size and labels.max() >= self.num_labels:
            raise ValueError(f"{mask} has label {labels.max()}, of {self.num_labels} from 0 on")
        return Example(image, truth)

    def check(self, index: int) -> None:
        self.read(index)

    def take(self, indices: Sequence[int]) -> "MaskedFiles":
        files = tuple(self.files[index] for index in indices)
        return MaskedFiles(self.root, files, self.read_mask, self.num_labels)


def read_picture(path: Path, *, draft: bool = False) -> Image.Image:
    """The whole picture in RGB, as the service would see it; a draft may be smaller.

    ValueError with the file's name when it is damaged, or no picture.
    """
    try:
        with Image.open(path) as image:
            if draft:
                image.draft("RGB", DRAFT)  # of effect with JPEG only
            return to_rgb(image)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def read_label_map(path: Path) -> LabelMap:
    """The values (H, W) of a one-channel picture: of a palette its indices, not its colours.

    ValueError with the file's name for any other picture, or for values above 255.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode, values = image.mode, np.asarray(image)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a mask: {error}") from error
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise ValueError(f"{path} is no mask: its mode is {mode}, not one value for each pixel")
    if values.size and int(values.max()) > IGNORED:
        raise ValueError(f"{path} has the label {values.max()}; {IGNORED - 1} is the highest")
    return values.astype(np.uint8)
