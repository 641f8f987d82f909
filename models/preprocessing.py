"""Preprocessing that a checkpoint specifies: from a Pillow image to the network's input.

The order of the steps is `reduce` (JPEG only), `to_rgb`, `fit` (resize, crop) and `normalize`.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

Size = tuple[int, int]  # height, width
Box = tuple[float, float, float, float]  # top, left, bottom, right in pixels
Color = tuple[float, ...]  # a number per channel: red, green, blue

NEAREST, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = range(6)  # Pillow's resampling filters
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

NO_RANGE = ("F", "I")  # Pillow's modes of gray with 32 bits; `convert` would clip at 0 and 255

# Values of the EXIF orientation tag
SWAPPED_AXES = (5, 6, 7, 8)  # width and height are exchanged
MIRRORED_COLUMNS = (2, 3, 6, 7)  # the left edge of the displayed image is stored last
MIRRORED_ROWS = (3, 4, 7, 8)  # the top edge of the displayed image is stored last


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an RGB image to a network's input; a field that is None skips its step.

    The resize either stretches the image to `size`, or keeps the aspect ratio and brings the
    shortest edge to `shortest_edge`; if the longest edge would then exceed `longest_edge`, the
    longest edge gets that length instead. If an odd number of pixels is left beside the crop, it
    begins half a pixel before the center (`crop_rounding` "down", as in transformers) or at the
    nearest even pixel ("even", as in torchvision). `reduce_labels` concerns training masks only:
    label 0 becomes 255 (ignored), every other label is decremented. `processor` is the name of
    these steps in preprocessor_config.json.
    """

    processor: str = "ViTImageProcessor"
    size: Size | None = (224, 224)
    shortest_edge: int | None = None
    longest_edge: int | None = None
    resample: int = BILINEAR
    crop_size: Size | None = None
    crop_rounding: Literal["down", "even"] = "down"
    rescale_factor: float | None = 1 / 255
    mean: Color | None = HALF
    std: Color | None = HALF
    reduce_labels: bool = False

    @property
    def input_size(self) -> Size | None:
        """The size of every network input, or None if it depends on the image."""
        return self.crop_size or self.size

    def at(self, side: int) -> "Preprocessing":
        """Return the same steps for a square input of `side` pixels.

        A crop keeps the same part of the image. Without a crop the image is stretched, even if the
        input size depended on the image before.
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
        """Return the size of an image after the resize, before the crop; None without a resize."""
        if self.size is not None or self.shortest_edge is None:
            return self.size
        return scaled_size(height, width, self.shortest_edge, self.longest_edge)

    def crop_box(self, height: int, width: int) -> tuple[int, int, int, int] | None:
        """Return the center crop's (top, left, bottom, right), or None without a crop.

        The box extends beyond a smaller image; pixels outside the image are 0.
        """
        if self.crop_size is None:
            return None
        top = self._crop_offset(height - self.crop_size[0])
        left = self._crop_offset(width - self.crop_size[1])
        return top, left, top + self.crop_size[0], left + self.crop_size[1]

    def _crop_offset(self, rest: int) -> int:
        """Return where the crop begins, if it leaves `rest` pixels; negative if it is larger."""
        if self.crop_rounding == "down":
            return rest // 2
        return round(rest / 2) if rest > 0 else -(-rest // 2)

    def source_box(self, height: int, width: int, box: Box) -> Box:
        """Convert a box of the network's input to pixels of an image of size height x width.

        The result may extend beyond the image.
        """
        resized = self.resized_size(height, width) or (height, width)
        top, left = (self.crop_box(*resized) or (0, 0))[:2]
        y, x = height / resized[0], width / resized[1]
        return (top + box[0]) * y, (left + box[1]) * x, (top + box[2]) * y, (left + box[3]) * x


class Reduction(NamedTuple):
    """How a JPEG was decoded at a reduced size, in terms of the image after EXIF orientation."""

    whole: Size  # (height, width) of the full-size image
    box: tuple[float, float, float, float]  # left, top, right, bottom in the reduced image


def reduce(image: Image.Image, preprocessing: Preprocessing) -> Reduction | None:
    """Configure a JPEG to be decoded at 1/8, 1/4 or 1/2 of its size.

    Chooses the smallest size that is at least twice the resized size on both axes. The inverse
    cosine transform then computes 1, 2 x 2 or 4 x 4 pixels of an 8 x 8 block.

    Args:
        image: an opened image that is not decoded yet.
        preprocessing: the preprocessing that `fit` will apply.

    Returns:
        The reduction to pass to `fit`, or None if the image is decoded at its full size.
    """
    if not isinstance(image, JpegImageFile):
        return None
    orientation = 1
    with suppress(Exception):  # broken metadata: `to_rgb` does not transpose such an image either
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    stored = image.size
    whole = stored if orientation in SWAPPED_AXES else stored[::-1]
    resized = preprocessing.resized_size(*whole)
    if resized is None:
        return None
    height, width = resized[::-1] if orientation in SWAPPED_AXES else resized
    drafted = image.draft(None, (2 * width, 2 * height))
    if drafted is None or image.size == stored:
        return None
    return Reduction(whole, _oriented_box(image.size, drafted[1][2:], orientation))


def _oriented_box(
    stored: tuple[int, int], covered: tuple[float, float], orientation: int
) -> tuple[float, float, float, float]:
    """Return where the full-size image lies in the reduced one, after EXIF orientation.

    Args:
        stored: (width, height) of the reduced image as stored.
        covered: (width, height) of its part that shows the image; the last column and row may be
            covered partly.
        orientation: the value of the EXIF tag.
    """
    (width, height), (covered_width, covered_height) = stored, covered
    if orientation in SWAPPED_AXES:
        width, height = height, width
        covered_width, covered_height = covered_height, covered_width
    left = width - covered_width if orientation in MIRRORED_COLUMNS else 0.0
    top = height - covered_height if orientation in MIRRORED_ROWS else 0.0
    return left, top, left + covered_width, top + covered_height


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode an image, apply its EXIF orientation and convert it to RGB.

    Gray, palette, alpha and CMYK images are converted by Pillow's `convert`, as in the reference
    implementation. Of 16-bit gray, the high byte is taken, as Pillow does with 16-bit colors. A
    damaged image raises whatever Pillow raises.

    Raises:
        ValueError: the mode of the image is one of NO_RANGE.
    """
    if image.mode in NO_RANGE:
        raise ValueError("gray values of 32 bits have no known range: convert the image to 8 bits")
    image.load()
    with suppress(Exception):  # broken metadata does not affect the pixels
        ImageOps.exif_transpose(image, in_place=True)
    # the transparent palette entry: `convert` would only warn that it is lost
    image.info.pop("transparency", None)
    if image.mode.startswith("I;16"):
        image = high_bytes(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # `convert` copies an RGB image


def high_bytes(image: Image.Image) -> Image.Image:
    """Return an 8-bit gray image of a 16-bit one; `convert` would make 255 of most values."""
    gray = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    gray.info = image.info
    return gray


def fit(
    rgb: Image.Image, preprocessing: Preprocessing, reduction: Reduction | None = None
) -> Image.Image:
    """Resize and crop an image as the checkpoint specifies.

    Args:
        rgb: the decoded image.
        preprocessing: the preprocessing of the checkpoint.
        reduction: what `reduce` returned for this image; the size of the full-size image determines
            the resized size.
    """
    whole, box = reduction or ((rgb.height, rgb.width), None)
    size = preprocessing.resized_size(*whole)
    if size is not None and size != (rgb.height, rgb.width):
        resample = Image.Resampling(preprocessing.resample)
        rgb = rgb.resize((size[1], size[0]), resample, box=box)
    crop = preprocessing.crop_box(rgb.height, rgb.width)
    if crop is not None:
        top, left, bottom, right = crop
        rgb = rgb.crop((left, top, right, bottom))  # black outside the image
    return rgb


def scaled_size(height: int, width: int, shortest: int, longest: int | None = None) -> Size:
    """Return the size with a short edge of `shortest`, or a long edge of `longest` if smaller.

    Rounds as the reference implementations do: the long edge down, and if `longest` applies, the
    short edge to the nearest integer. No edge is shorter than one pixel.
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
    """Rescale and normalize uint8 (B, H, W, C) to float32 (B, C, H, W) on the same device.

    The reference computes `(pixels * factor - mean) / std`, partly in double and partly in single
    precision. On a CPU the result equals it to the last bit for factors 1/n; on other devices it
    is within 1e-6.
    """
    x = pixels.permute(0, 3, 1, 2)  # (B, C, H, W), a view
    x = x.to(torch.float32, memory_format=torch.contiguous_format)  # (B, C, H, W)
    if preprocessing.rescale_factor is not None:
        x.div_(1 / preprocessing.rescale_factor)  # exact for 1/255; a multiplication is not
    if preprocessing.mean is not None and preprocessing.std is not None:
        x.sub_(per_channel(preprocessing.mean, x.device))
        x.div_(per_channel(preprocessing.std, x.device))
    return x


@cache
def per_channel(values: Color, device: torch.device) -> Tensor:
    """Return a tensor (1, C, 1, 1) on the device; cached, so it is copied once, not per batch."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
