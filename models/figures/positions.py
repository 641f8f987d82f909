"""Draws the similarity of position embeddings, and the tables of sinusoidal positions."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.figures.canvas import FigureError, blank, png
from models.layers.positions import Grid, sinusoid_1d, sinusoid_2d
from models.registry import Network
from models.vit import ViT
from models.vit_segmenter import ViTSegmenter

PANELS = 8  # per side, at most


def positions_figure(network: Network, name: str) -> bytes:
    """Draw the cosine similarity of each patch's position embedding to all position embeddings.

    As in figure 7, center, of ViT (arXiv:2010.11929). A grid with more than 8 patches per side is
    sampled at regular intervals.

    Raises:
        FigureError: the network has no position embeddings.
    """
    table, grid = position_table(network)
    unit = normalize(table, dim=1)  # (N, D)
    similarity = (unit @ unit.T).view(*grid, *grid)  # (row, column) to (row, column)
    rows, columns = (range(0, n, -(-n // PANELS)) for n in grid)
    title = f"{name}: similarity of position embeddings, {grid[0]} x {grid[1]} patches"
    figure = blank(6.6, 6.4 * len(rows) / len(columns) + 0.6, title)
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, line in zip(rows, panels, strict=True):
        for column, panel in zip(columns, line, strict=True):
            shown = panel.imshow(similarity[row, column].numpy(), vmin=-1, vmax=1)
            panel.set(xticks=[], yticks=[])
            panel.set_xlabel(str(column + 1) if row == rows[-1] else "", fontsize=8)
            panel.set_ylabel(str(row + 1) if column == 0 else "", fontsize=8)
    figure.supxlabel("column of the patch", fontsize=9)
    figure.supylabel("row of the patch", fontsize=9)
    figure.colorbar(shown, ax=panels, label="cosine similarity", shrink=0.7)
    return png(figure)


def position_table(network: Network) -> tuple[Tensor, Grid]:
    """Return the patches' position embeddings, float (N, D), and their grid.

    Raises:
        FigureError: the network has no position embeddings.
    """
    if isinstance(network, ViTSegmenter):
        return network.positions.detach()[0].float(), network.config.grid
    if not isinstance(network, ViT):
        raise FigureError(
            "a SegFormer has no position embeddings: its convolutions provide positions"
        )
    config = network.config
    if config.positions == "relative":
        raise FigureError("relative positions are a bias of the attention, not embeddings")
    N, C = config.grid[0] * config.grid[1], config.num_class_tokens
    with torch.no_grad():
        positions = network.positions_for(config.grid, torch.zeros(1, C + N, config.hidden_size))
    return positions.view(C + N, -1)[C:].float(), config.grid


def sinusoids_figure(network: Network, name: str) -> bytes:
    """Draw the 1-D and the 2-D sinusoidal table at the grid and width of a ViT.

    Raises:
        FigureError: the network is not a ViT.
    """
    if not isinstance(network, ViT | ViTSegmenter):
        raise FigureError("a SegFormer has no positions; sinusoidal tables are for a ViT")
    grid, D = network.config.grid, network.config.hidden_size
    tables = {"1-D": sinusoid_1d(grid[0] * grid[1], D), "2-D": sinusoid_2d(grid, D)}
    size = f"{grid[0]} x {grid[1]} patches, width {D}"
    figure = blank(9.6, 4.6, f"Sinusoidal positions at the size of {name}: {size}")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (kind, table) in zip(panels, tables.items(), strict=True):
        shown = panel.imshow(
            table.numpy(), aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest"
        )
        panel.set(title=kind, xlabel="dimension")
    panels[0].set_ylabel("patch, row by row")
    figure.colorbar(shown, ax=panels, label="value added to the token")
    return png(figure)
