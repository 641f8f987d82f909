"""Image files, each with a label or with a mask file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.preprocessing import to_rgb
from models.training.data.examples import IGNORED, Example, LabelMap

ReadMask = Callable[[Path], LabelMap]
DRAFT = (64, 64)  # pixels; decoding a JPEG at this size detects damage at a fraction of the cost


@dataclass(frozen=True)
class LabeledFiles:
    """Image files, and the index of the label of each."""

    root: Path
    files: tuple[tuple[Path, int], ...]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        path, label = self.files[index]
        return f"{path.relative_to(self.root).as_posix()} {label}"

    def read(self, index: int) -> Example:
        path, label = self.files[index]
        return Example(read_image(path), label)

    def check(self, index: int) -> None:
        read_image(self.files[index][0], draft=True)

    def take(self, indices: Sequence[int]) -> "LabeledFiles":
        return LabeledFiles(self.root, tuple(self.files[index] for index in indices))


@dataclass(frozen=True)
class MaskedFiles:
    """Image files and their masks: images of the same size, with label indices as values."""

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
        image, truth = read_image(path), self.read_mask(mask)
        if truth.shape != (image.height, image.width):
            height, width = truth.shape
            raise ValueError(
                f"{mask} has {width} x {height} pixels, its image {image.width} x {image.height}"
            )
        labels = truth[truth != IGNORED]
        if labels.size and labels.max() >= self.num_labels:
            raise ValueError(
                f"{mask} has label {labels.max()}; the highest is {self.num_labels - 1}"
            )
        return Example(image, truth)

    def check(self, index: int) -> None:
        self.read(index)

    def take(self, indices: Sequence[int]) -> "MaskedFiles":
        files = tuple(self.files[index] for index in indices)
        return MaskedFiles(self.root, files, self.read_mask, self.num_labels)


def read_image(path: Path, *, draft: bool = False) -> Image.Image:
    """Return the image in RGB, decoded as the service does it; a draft may be smaller.

    Raises:
        ValueError: the file is damaged, or no image; with the file's name.
    """
    try:
        with Image.open(path) as image:
            if draft:
                image.draft("RGB", DRAFT)  # has an effect on JPEG only
            return to_rgb(image)
    except UnidentifiedImageError as error:  # its message has the path, too
        raise ValueError(f"{path} cannot be read as an image: its format is unknown") from error
    except Exception as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def read_label_map(path: Path) -> LabelMap:
    """Return the values (H, W) of a one-channel image; for a palette the indices.

    Raises:
        ValueError: any other image, or values above 255; with the file's name.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode, values = image.mode, np.asarray(image)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a mask: {error}") from error
    if values.ndim != 2 or values.dtype.kind not in "biu":
        raise ValueError(
            f"{path} is not a mask: its mode is {mode}, without a single value per pixel"
        )
    if values.size and int(values.max()) > IGNORED:
        raise ValueError(f"{path} has the label {values.max()}; {IGNORED - 1} is the highest")
    return values.astype(np.uint8)
