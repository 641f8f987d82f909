"""Patch embeddings, which map an image to a grid of patch tokens."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

PatchOrder = Literal["channels_first", "channels_last"]  # (C P P) or (P P C), in a patch


def patchify(image: Tensor, patch_size: int, order: PatchOrder = "channels_first") -> Tensor:
    """Split an image into patches: (B, C, H, W) -> (B, H / P, W / P, C * P * P).

    A patch holds neighboring pixels: channel by channel and in each row by row, or with
    "channels_last" row by row and in each pixel by pixel. Pixels at the right and lower edge that
    do not fill a patch are cut off.
    """
    P = patch_size
    rows, columns = image.shape[2] // P, image.shape[3] // P
    image = image[:, :, : rows * P, : columns * P]
    patches = image.unflatten(3, (columns, P)).unflatten(2, (rows, P))  # (B, C, rows, P, cols, P)
    if order == "channels_last":
        return patches.permute(0, 2, 4, 3, 5, 1).flatten(3)  # (B, rows, columns, P P C)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, rows, columns, C P P)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Invert `patchify`: (B, rows, columns, C * P * P) -> (B, C, rows * P, columns * P).

    The order of a patch is "channels_first".
    """
    P = patch_size
    image = patches.unflatten(3, (-1, P, P)).permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, P, cols, P)
    return image.flatten(4, 5).flatten(2, 3)  # (B, C, rows P, columns P)


def linear_weight(convolution_weight: Tensor, order: PatchOrder = "channels_first") -> Tensor:
    """Reshape the weight of a patch convolution for a linear layer: (D, C, P, P) -> (D, C P P)."""
    if order == "channels_last":
        convolution_weight = convolution_weight.permute(0, 2, 3, 1)  # (D, P, P, C)
    return convolution_weight.flatten(1)


def convolution_weight(
    linear_weight: Tensor, patch_size: int, order: PatchOrder = "channels_first"
) -> Tensor:
    """Reshape the weight of a linear layer for a convolution: (D, C P P) -> (D, C, P, P)."""
    if order == "channels_last":
        return linear_weight.unflatten(1, (patch_size, patch_size, -1)).permute(0, 3, 1, 2)
    return linear_weight.unflatten(1, (-1, patch_size, patch_size))


class ConvolutionPatches(nn.Module):
    """A convolution with stride P and kernel P x P: (B, C, H, W) -> (B, H / P, W / P, D)."""

    def __init__(self, width: int, patch_size: int, channels: int = 3) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(pixels).permute(0, 2, 3, 1)  # (B, rows, columns, D)


class LinearPatches(nn.Module):
    """One linear layer on the pixels of each patch, as in equation 1 of ViT.

    Maps (B, C, H, W) to (B, H / P, W / P, D). Equal to `ConvolutionPatches` with the same weight,
    see `linear_weight`.
    """

    def __init__(
        self,
        width: int,
        patch_size: int,
        channels: int = 3,
        order: PatchOrder = "channels_first",
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.order = order
        self.projection = nn.Linear(channels * patch_size**2, width)

    def forward(self, pixels: Tensor) -> Tensor:
        x = patchify(pixels, self.patch_size, self.order)  # (B, rows, columns, C P P)
        return self.projection(x)  # (B, rows, columns, D)


class NormalizedPatches(nn.Module):
    """Dual patch norm (arXiv:2302.01327): a LayerNorm before and after the linear layer.

    Maps (B, C, H, W) to (B, H / P, W / P, D).
    """

    def __init__(
        self,
        width: int,
        patch_size: int,
        channels: int = 3,
        order: PatchOrder = "channels_first",
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.order = order
        self.norm_1 = nn.LayerNorm(channels * patch_size**2)
        self.projection = nn.Linear(channels * patch_size**2, width)
        self.norm_2 = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        x = patchify(pixels, self.patch_size, self.order)  # (B, rows, columns, C P P)
        x = self.norm_1(x)  # (B, rows, columns, C P P)
        return self.norm_2(self.projection(x))  # (B, rows, columns, D)


class HybridPatches(nn.Module):
    """A convolutional stem to a quarter of the size, then a patch convolution of its features.

    Maps (B, C, H, W) to (B, H / P, W / P, D). This is the hybrid of ViT (arXiv:2010.11929, section
    3.1) with two strided convolutions, as in arXiv:2106.14881, instead of a whole ResNet.

    Raises:
        ValueError: patch_size is not a multiple of 4.
    """

    def __init__(self, width: int, patch_size: int, channels: int = 3) -> None:
        super().__init__()
        if patch_size % 4:
            raise ValueError(
                f"the hybrid patch embedding needs a patch_size that is a multiple of 4,"
                f" not {patch_size}"
            )
        C, P = max(width // 4, 8), patch_size // 4
        self.stem = nn.Sequential(
            nn.Conv2d(channels, C, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(C),
            nn.ReLU(),
            nn.Conv2d(C, 2 * C, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * C),
            nn.ReLU(),
        )
        self.projection = nn.Conv2d(2 * C, width, kernel_size=P, stride=P)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.projection(self.stem(pixels))  # (B, D, rows, columns)
        return x.permute(0, 2, 3, 1)  # (B, rows, columns, D)


PATCH_EMBEDDINGS: dict[str, Callable[..., nn.Module]] = {  # (width, patch_size, channels)
    "convolution": ConvolutionPatches,
    "linear": LinearPatches,
    "normalized": NormalizedPatches,
    "hybrid": HybridPatches,
}
ORDERED = ("linear", "normalized")  # these also take the order of the values in a patch
