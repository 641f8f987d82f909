"""Snapshots of a segmenter's progress: its label maps of a few images after some epochs.

They show the limits of a head: one that predicts a patch at a time first predicts blocks.
"""

import colorsys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from models.label_map import label_map
from models.preprocessing import NEAREST, Preprocessing, normalize
from models.registry import Network
from models.training.data.examples import IGNORED, Dataset
from models.training.data.loader import as_served
from models.training.fitting.evaluate import truth_of
from models.training.scenes.plots import GAP, INK, PAPER, font
from models.training.scenes.samples import LABEL_COLORS

PROGRESS = "progress.png"
EPOCHS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # and the last epoch
SHOWN = 4  # images
SIDE, TOP = 132, 26  # pixels: the side of a tile, and the height of the header


@dataclass(frozen=True)
class Snapshots:
    """The label maps (SHOWN, H, W) of some epochs, uint8, at the network's input size."""

    examples: Dataset
    preprocessing: Preprocessing
    last: int  # epoch
    taken: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, held_out: Dataset, preprocessing: Preprocessing, last: int) -> "Snapshots":
        """Return snapshots of evenly spaced held-out images."""
        count = min(SHOWN, len(held_out))
        chosen = np.linspace(0, len(held_out) - 1, count).round().astype(int).tolist()
        return cls(held_out.take(chosen), preprocessing, last)

    @torch.no_grad()
    def take(self, epoch: int, network: Network) -> None:
        """Keep the network's label maps, if this is one of the epochs to show."""
        if epoch not in (*EPOCHS, self.last):
            return
        device = next(network.parameters()).device
        maps = []
        for (image, _), *_ in as_served(self.examples, self.preprocessing, 1):
            pixels = torch.from_numpy(np.asarray(image)[None].copy())  # (1, H, W, 3)
            (logits,) = network(normalize(pixels.to(device), self.preprocessing))
            maps.append(label_map(logits, (image.height, image.width)).cpu())
        self.taken[epoch] = torch.stack(maps)

    def state(self) -> dict[int, Tensor]:
        """Return the argument of `restore`."""
        return dict(self.taken)

    def restore(self, state: dict[int, Any]) -> None:
        """Continue after the epochs of the state."""
        self.taken.update(state)

    def draw(self, folder: Path) -> None:
        """Write progress.png: for each example a row with image, truth and predictions."""
        columns = ["image", "truth", *(f"epoch {epoch}" for epoch in sorted(self.taken))]
        size = (len(columns) * (SIDE + 4) + GAP, TOP + len(self.examples) * (SIDE + 4) + GAP)
        sheet = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(sheet)
        for column, text in enumerate(columns):
            middle = GAP + column * (SIDE + 4) + SIDE // 2
            draw.text((middle, TOP // 2 + 2), text, INK, font(14), anchor="mm")
        for row, (example, *_) in enumerate(as_served(self.examples, self.preprocessing, 1)):
            truth = truth_of(example, at_input_size=True)
            maps = [truth, *(self.taken[epoch][row].numpy() for epoch in sorted(self.taken))]
            tiles = [example.image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)]
            tiles += [tile(each) for each in maps]
            for column, image in enumerate(tiles):
                sheet.paste(image, (GAP + column * (SIDE + 4), TOP + row * (SIDE + 4)))
        sheet.save(folder / PROGRESS, optimize=True)


def tile(labels: NDArray[np.uint8]) -> Image.Image:
    """Return a label map in colors, enlarged with sharp pixels."""
    image = Image.fromarray(palette()[labels])
    return image.resize((SIDE, SIDE), Image.Resampling(NEAREST))


def palette() -> NDArray[np.uint8]:
    """Return 256 colors (256, 3): the scenes' colors, then hues far from the previous one."""
    colors = list(LABEL_COLORS)
    for index in range(len(colors), IGNORED):
        red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.65, 0.9)  # the golden ratio
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return np.array([*colors, (255, 255, 255)], np.uint8)
