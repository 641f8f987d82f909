"""What a checkpoint asks of an image: resize, crop, rescale, mean and standard deviation.

Knows nothing of files, nor of any image library: it gives sizes and numbers, others move pixels.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
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
