"""A pool of scenes in memory, and the batches that are taken from it.

Does not know the networks, only the size of image they take.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.training.scenes.scene import SIZE, draw_scene


@dataclass(frozen=True)
class Batch:
    """Scenes side by side; the whole pool is one too."""

    images: Tensor  # uint8 (B, S, S, 3), RGB, as a network takes them
    label_maps: Tensor  # uint8 (B, SIZE, SIZE)
    largest: Tensor  # int64 (B,), indices into KINDS
    shapes: Tensor  # int64 (B,), how many there are

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> "Batch":
        return Batch(
            self.images[indices],
            self.label_maps[indices],
            self.largest[indices],
            self.shapes[indices],
        )

    def alone(self) -> "Batch":
        """Only the scenes of a single shape."""
        return self.take(torch.nonzero(self.shapes == 1).squeeze(1))

    def crowded(self, singles: float) -> "Batch":
        """The scenes of several shapes, and a part of those of a single one."""
        kept = torch.arange(len(self)) < singles * len(self)
        return self.take(torch.nonzero((self.shapes > 1) | kept).squeeze(1))


def draw_pool(
    seed: int, count: int, side: int, drawn: Callable[[int], None] = lambda done: None
) -> Batch:
    """The first `count` scenes of a seed, the images resized to `side`; `drawn` hears of each."""
    images = np.empty((count, side, side, 3), np.uint8)
    label_maps = np.empty((count, SIZE, SIZE), np.uint8)
    largest, shapes = np.empty(count, np.int64), np.empty(count, np.int64)
    for index in range(count):
        scene = draw_scene(seed, index)
        image = Image.fromarray(scene.image)
        images[index] = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        label_maps[index] = scene.label_map
        largest[index], shapes[index] = scene.largest, scene.shapes
        drawn(index + 1)
    return Batch(*(torch.from_numpy(array) for array in (images, label_maps, largest, shapes)))


def batches(pool: Batch, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Batches without end: the pool in another order and other guises each time around."""
    if len(pool) < size:
        raise ValueError(f"a pool of {len(pool)} scenes does not fill a batch of {size}")
    while True:
        order = torch.randperm(len(pool), generator=generator)
        for indices in order.split(size)[: len(pool) // size]:
            yield disguised(pool.take(indices), generator)


def disguised(batch: Batch, generator: torch.Generator) -> Batch:
    """The same scenes mirrored, turned by right angles and with their colour channels swapped.

    None of that changes a kind or an area. One throw of the dice serves the whole batch.
    """
    turns = int(torch.randint(4, (), generator=generator))
    images, label_maps = batch.images.rot90(turns, (1, 2)), batch.label_maps.rot90(turns, (1, 2))
    if torch.rand((), generator=generator) < 0.5:
        images, label_maps = images.flip(2), label_maps.flip(2)
    channels = torch.randperm(3, generator=generator)
    return Batch(images[..., channels], label_maps, batch.largest, batch.shapes)
