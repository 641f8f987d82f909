"""Draws principal components of the first layer's filters: figure 7, left, of ViT (2010.11929)."""

import torch
from torch import Tensor, nn

from models.figures.canvas import blank, png
from models.layers.patch_embedding import (
    LinearPatches,
    NormalizedPatches,
    convolution_weight,
)
from models.registry import Network
from models.vit import ViT
from models.vit_segmenter import ViTSegmenter

COMPONENTS = 28  # the number in the paper
COLUMNS = 7


def filters_figure(network: Network, name: str) -> bytes:
    """Draw the first principal components of the patch embedding's filters, largest first.

    Gray is 0 in each color channel. Each component is scaled by its own largest value.

    Raises:
        ValueError: the input has neither 1 nor 3 channels, so that filters have no color.
    """
    if (channels := network.config.num_channels) not in (1, 3):
        raise ValueError(f"filters of {channels} channels have no color; 1 or 3 channels have")
    components, parts = principal_components(first_filters(network), COMPONENTS)
    rows = -(-len(components) // COLUMNS)
    title = (
        f"{name}: first-layer filters, {len(components)} components of {parts.sum():.0%} variance"
    )
    figure = blank(7.2, 1.15 * rows + 0.7, title)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    for panel, component, part in zip(panels, components, parts.tolist(), strict=False):
        picture = 0.5 + 0.5 * component / component.abs().max()
        pixels = picture.expand(3, -1, -1).permute(1, 2, 0)  # (height, width, 3)
        panel.imshow(pixels.numpy(), interpolation="nearest")
        panel.set_title(f"{part:.1%}", fontsize=8, pad=2)
    return png(figure)


def first_filters(network: Network) -> Tensor:
    """Return the weight of the first layer as filters of pixels, (D, C, height, width)."""
    if isinstance(network, ViT | ViTSegmenter):
        first = network.patch_embedding
    else:
        first = network.encoder.stages[0]
    layer = next(m for m in first.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    weight = layer.weight.detach().float()
    if isinstance(first, LinearPatches | NormalizedPatches):
        return convolution_weight(weight, first.patch_size, first.order)
    return weight


def principal_components(filters: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the first principal components of filters (D, ...), and their parts of the variance.

    Returns:
        Unit vectors (K, ...) and parts (K,), for K at most `count`.
    """
    flat = filters.flatten(1)
    _, singular, directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    parts = singular.square() / singular.square().sum()
    return directions[:count].unflatten(1, filters.shape[1:]), parts[:count]
