"""Patch embeddings, which map an image to a grid of patch tokens."""

from collections.abc import Callable

from torch import Tensor, nn


def patchify(image: Tensor, patch_size: int) -> Tensor:
    """Split an image into patches: (B, C, H, W) -> (B, H / P, W / P, C * P * P).

    A patch holds neighboring pixels, channel by channel and row by row. Pixels at the right and
    lower edge that do not fill a patch are cut off.
    """
    P = patch_size
    rows, columns = image.shape[2] // P, image.shape[3] // P
    image = image[:, :, : rows * P, : columns * P]
    patches = image.unflatten(3, (columns, P)).unflatten(2, (rows, P))  # (B, C, rows, P, cols, P)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, rows, columns, C P P)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """Invert `patchify`: (B, rows, columns, C * P * P) -> (B, C, rows * P, columns * P)."""
    P = patch_size
    image = patches.unflatten(3, (-1, P, P)).permute(0, 3, 1, 4, 2, 5)  # (B, C, rows, P, cols, P)
    return image.flatten(4, 5).flatten(2, 3)  # (B, C, rows P, columns P)


def linear_weight(convolution_weight: Tensor) -> Tensor:
    """Reshape the weight of a patch convolution for a linear layer: (D, C, P, P) -> (D, C P P)."""
    return convolution_weight.flatten(1)


def convolution_weight(linear_weight: Tensor, patch_size: int) -> Tensor:
    """Reshape the weight of a linear layer for a convolution: (D, C P P) -> (D, C, P, P)."""
    return linear_weight.unflatten(1, (-1, patch_size, patch_size))


class ConvolutionPatches(nn.Module):
    """A convolution with stride P and kernel P x P: (B, 3, H, W) -> (B, H / P, W / P, D)."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(pixels).permute(0, 2, 3, 1)  # (B, rows, columns, D)


class LinearPatches(nn.Module):
    """One linear layer on the pixels of each patch, as in equation 1 of ViT.

    Maps (B, 3, H, W) to (B, H / P, W / P, D). Equal to `ConvolutionPatches` with the same weight,
    see `linear_weight`.
    """

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(3 * patch_size**2, width)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(patchify(pixels, self.patch_size))  # (B, rows, columns, D)


class NormalizedPatches(nn.Module):
    """Dual patch norm (arXiv:2302.01327): a LayerNorm before and after the linear layer.

    Maps (B, 3, H, W) to (B, H / P, W / P, D).
    """

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.norm_1 = nn.LayerNorm(3 * patch_size**2)
        self.projection = nn.Linear(3 * patch_size**2, width)
        self.norm_2 = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norm_1(patchify(pixels, self.patch_size))  # (B, rows, columns, 3 P P)
        return self.norm_2(self.projection(x))  # (B, rows, columns, D)


class HybridPatches(nn.Module):
    """A convolutional stem to a quarter of the size, then a patch convolution of its features.

    Maps (B, 3, H, W) to (B, H / P, W / P, D). This is the hybrid of ViT (arXiv:2010.11929, section
    3.1) with two strided convolutions, as in arXiv:2106.14881, instead of a whole ResNet.

    Raises:
        ValueError: patch_size is not a multiple of 4.
    """

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        if patch_size % 4:
            raise ValueError(
                f"the hybrid patch embedding needs a patch_size that is a multiple of 4,"
                f" not {patch_size}"
            )
        C, P = max(width // 4, 8), patch_size // 4
        self.stem = nn.Sequential(
            nn.Conv2d(3, C, 3, stride=2, padding=1, bias=False),
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


PATCH_EMBEDDINGS: dict[str, Callable[[int, int], nn.Module]] = {  # (width, patch_size) -> module
    "convolution": ConvolutionPatches,
    "linear": LinearPatches,
    "normalized": NormalizedPatches,
    "hybrid": HybridPatches,
}
