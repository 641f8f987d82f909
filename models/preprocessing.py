"""What a checkpoint asks of an image: resize, crop, rescale, mean and standard deviation.

Knows nothing of files, nor of any image library: it gives sizes and numbers, others move pixels.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

Size = tuple[int, int]  # height, width
Box = tuple[float, float, float, float]  # top, left, bottom, right in pixels
Colour = tuple[float, float, float]  # red, green, blue

NEAREST, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = range(6)  # Pillow's numbers for its filters
IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
HALF: Colour = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an RGB image to a network's input; a step that is None is left out.

    The resize goes to `size`, stretching, or else brings the shortest edge to `shortest_edge`,
    keeping the aspect ratio, unless the longest edge would then exceed `longest_edge`, which
    decides in that case. `reduce_labels` concerns training masks only: 0 becomes 255 (ignored),
    every other label one less. `processor` is what preprocessor_config.json calls these steps.
    """

    processor: str = "ViTImageProcessor"
    size: Size | None = (224, 224)
    shortest_edge: int | None = None
    longest_edge: int | None = None
    resample: int = BILINEAR
    crop_size: Size | None = None
    rescale_factor: float | None = 1 / 255
    mean: Colour | None = HALF
    std: Colour | None = HALF
    reduce_labels: bool = False

    @property
    def input_size(self) -> Size | None:
        """The size that every image comes out with, or None when it varies with the image."""
        return self.crop_size or self.size

    def at(self, side: int) -> "Preprocessing":
        """The same steps to a square input of another size, of `side` pixels.

        What is cut away of an image stays the same part of it. An input whose size varied with
        the image has a fixed one now: the image is stretched.
        """
        if self.crop_size is None:
            square = (side, side)
            return replace(self, size=square, shortest_edge=None, longest_edge=None)
        scale = side / min(self.crop_size)
        size = self.size and (round(self.size[0] * scale), round(self.size[1] * scale))
        shortest = self.shortest_edge and round(self.shortest_edge * scale)
        longest = self.longest_edge and round(self.longest_edge * scale)
        return replace(
            self, size=size, shortest_edge=shortest, longest_edge=longest, crop_size=(side, side)
        )

    def resized_size(self, height: int, width: int) -> Size | None:
        """The size to resize an image to, before the crop; None when there is no resize."""
        if self.size is not None or self.shortest_edge is None:
            return self.size
        return scaled_size(height, width, self.shortest_edge, self.longest_edge)

    def crop_box(self, height: int, width: int) -> tuple[int, int, int, int] | None:
        """(top, left, bottom, right) of the centre crop of an image, or None when there is none.

        The box reaches beyond an image that is smaller than it; out there the pixels are 0.
        """
        if self.crop_size is None:
            return None
        top, left = (height - self.crop_size[0]) // 2, (width - self.crop_size[1]) // 2
        return top, left, top + self.crop_size[0], left + self.crop_size[1]

    def source_box(self, height: int, width: int, box: Box) -> Box:
        """Where a box of the network's input lies in an image of that size; it may reach beyond."""
        resized = self.resized_size(height, width) or (height, width)
        top, left = (self.crop_box(*resized) or (0, 0))[:2]
        y, x = height / resized[0], width / resized[1]
        return (top + box[0]) * y, (left + box[1]) * x, (top + box[2]) * y, (left + box[3]) * x


def scaled_size(height: int, width: int, shortest: int, longest: int | None = None) -> Size:
    """The size whose short edge is `shortest`, or whose long edge is `longest` if that is less.

    Rounds as the reference implementations do: the long edge down, and of a bounded size the short
    edge to the nearest. No edge goes below one pixel.
    """
    low, high = min(height, width), max(height, width)
    exact = float(shortest)
    if longest is not None and high / low * shortest > longest:
        exact = longest * low / high
        shortest = round(exact)
    long = high if low == shortest else max(int(exact * high / low), 1)
    short = max(shortest, 1)
    return (short, long) if height <= width else (long, short)


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) on the same device, rescaled and normalised.

    On a CPU equal to the reference `(pixels * factor - mean) / std`, computed in double and float
    precision in turn, to the last bit for factors 1/n; elsewhere within 1e-6.
    """
    x = pixels.permute(0, 3, 1, 2)  # (B, 3, H, W), a view
    x = x.to(torch.float32, memory_format=torch.contiguous_format)  # (B, 3, H, W)
    if preprocessing.rescale_factor is not None:
        x.div_(1 / preprocessing.rescale_factor)  # exact for 1/255, unlike multiplication
    if preprocessing.mean is not None and preprocessing.std is not None:
        x.sub_(per_channel(preprocessing.mean, x.device))
        x.div_(per_channel(preprocessing.std, x.device))
    return x


@lru_cache(maxsize=64)
def per_channel(values: Colour, device: torch.device) -> Tensor:
    """The constants as a tensor (1, 3, 1, 1), sent to the device once rather than per batch."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)


TURNED = (5, 6, 7, 8)  # the EXIF orientations that exchange width and height
# and those that put a file's last column, or row, to the left and to the top
FROM_RIGHT, FROM_BELOW = (2, 3, 6, 7), (3, 4, 7, 8)


class Reduction(NamedTuple):
    """A picture that was decoded smaller than it is; all after its EXIF orientation."""

    whole: Size  # of the picture itself: (height, width)
    box: tuple[float, float, float, float]  # left, top, right, bottom of it in the smaller one


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture fully decoded, turned by its EXIF orientation, in RGB.

    Grey, palette, alpha, CMYK and 16-bit pictures become RGB as Pillow's `convert` makes them,
    which is the reference's way. Whatever Pillow raises for a damaged picture.
    """
    image.load()
    with suppress(Exception):  # broken metadata does not spoil the pixels
        ImageOps.exif_transpose(image, in_place=True)
    # says which palette entry is clear; converting would only warn that it is lost
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def reduce(image: Image.Image, preprocessing: Preprocessing) -> Reduction | None:
    """Have a JPEG decoded at the least of 1/8, 1/4 and 1/2 that is twice what it is resized to.

    The inverse cosine transform then makes 1, 2 x 2 or 4 x 4 pixels of a block's low frequencies
    instead of 8 x 8 of all of them.

    Args:
        image: as Pillow opens it, not decoded yet.
        preprocessing: what to resize it to; neither axis comes below twice that.

    Returns:
        What `fit` needs to know, or None where nothing is reduced.
    """
    if not isinstance(image, JpegImageFile):
        return None
    orientation = 1
    with suppress(Exception):  # broken metadata: `to_rgb` leaves such a picture as it lies
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    stored = image.size
    whole = stored if orientation in TURNED else stored[::-1]
    resized = preprocessing.resized_size(*whole)
    if resized is None:
        return None
    height, width = resized[::-1] if orientation in TURNED else resized
    drafted = image.draft(None, (2 * width, 2 * height))
    if drafted is None or image.size == stored:
        return None
    return Reduction(whole, _cover(image.size, drafted[1][2:], orientation))


def _cover(
    stored: tuple[int, int], covered: tuple[float, float], orientation: int
) -> tuple[float, float, float, float]:
    """Where a picture lies in its reduction, of whose last column and row it may cover a part."""
    (width, height), (across, down) = stored, covered
    if orientation in TURNED:
        width, height, across, down = height, width, down, across
    left = width - across if orientation in FROM_RIGHT else 0.0
    top = height - down if orientation in FROM_BELOW else 0.0
    return left, top, left + across, top + down


def fit(
    rgb: Image.Image, preprocessing: Preprocessing, reduction: Reduction | None = None
) -> Image.Image:
    """The picture resized and cropped as the checkpoint asks.

    Args:
        rgb: the picture.
        preprocessing: what the checkpoint asks for.
        reduction: how `rgb` was reduced; the whole picture decides the size.
    """
    whole, cover = reduction or ((rgb.height, rgb.width), None)
    size = preprocessing.resized_size(*whole)
    if size is not None and size != (rgb.height, rgb.width):
        resample = Image.Resampling(preprocessing.resample)
        rgb = rgb.resize((size[1], size[0]), resample, box=cover)
    box = preprocessing.crop_box(rgb.height, rgb.width)
    if box is not None:
        top, left, bottom, right = box
        rgb = rgb.crop((left, top, right, bottom))  # beyond the image it is black
    return rgb
