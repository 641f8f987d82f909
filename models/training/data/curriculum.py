"""A curriculum of generated scenes in memory: scenes with a single shape first, then all kinds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.registry import Task
from models.training.data.examples import Batch
from models.training.scenes.scene import SIZE, draw_scene


@dataclass(frozen=True)
class Curriculum:
    """Which scenes each training step uses; fractions are of all steps or of all scenes."""

    scenes: int
    steps: int
    single_steps: float  # fraction of the steps, from the first, on scenes with a single shape
    singles: float = 1.0  # fraction of the scenes in which single-shape ones are kept afterwards


@dataclass(frozen=True)
class Pool:
    """Scenes in memory; the tensors share their first dimension."""

    images: Tensor  # uint8 (N, S, S, 3), RGB, at the network's input size
    label_maps: Tensor  # uint8 (N, SIZE, SIZE)
    largest: Tensor  # int64 (N,), the kind of the largest shape, an index into KINDS
    shapes: Tensor  # int64 (N,), the number of shapes

    def __len__(self) -> int:
        return len(self.images)

    def single(self) -> Tensor:
        """Return the indices of the scenes with a single shape."""
        return torch.nonzero(self.shapes == 1).squeeze(1)

    def crowded(self, singles: float) -> Tensor:
        """Return the indices of all scenes with several shapes and of some with a single shape."""
        kept = torch.arange(len(self)) < singles * len(self)
        return torch.nonzero((self.shapes > 1) | kept).squeeze(1)


def draw_pool(
    seed: int, count: int, side: int, watch: Callable[[int, int], None] = lambda done, total: None
) -> Pool:
    """Draw the first `count` scenes of a seed, with the images resized to `side` pixels."""
    images = np.empty((count, side, side, 3), np.uint8)
    label_maps = np.empty((count, SIZE, SIZE), np.uint8)
    largest, shapes = np.empty(count, np.int64), np.empty(count, np.int64)
    for index in range(count):
        scene = draw_scene(seed, index)
        image = Image.fromarray(scene.image)
        images[index] = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        label_maps[index] = scene.label_map
        largest[index], shapes[index] = scene.largest, scene.shapes
        watch(index + 1, count)
    return Pool(*(torch.from_numpy(array) for array in (images, label_maps, largest, shapes)))


@dataclass(frozen=True)
class CurriculumFeed:
    """Augmented batches of a pool in the order of a curriculum; an epoch is the whole curriculum.

    Batches for the task "classify" also hold the label maps, for the auxiliary loss on patches.
    """

    pool: Pool
    curriculum: Curriculum
    task: Task
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return self.curriculum.steps

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of an epoch, from batch `start` on.

        Raises:
            ValueError: the scenes of a stage of the curriculum do not fill a batch.
        """
        return islice(self._batches(number), start, None)

    def _batches(self, number: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed + number)
        single = self._shuffled(self.pool.single(), generator)
        crowded = self._shuffled(self.pool.crowded(self.curriculum.singles), generator)
        for step in range(self.steps):
            progress = step / self.steps
            indices = next(single if progress < self.curriculum.single_steps else crowded)
            yield self._augmented(indices, generator)

    def _shuffled(self, scenes: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the indices of full batches without end, in a new order after each pass."""
        if len(scenes) < self.batch_size:
            raise ValueError(f"{len(scenes)} scenes do not fill a batch of {self.batch_size}")
        while True:
            order = scenes[torch.randperm(len(scenes), generator=generator)]
            yield from order.split(self.batch_size)[: len(scenes) // self.batch_size]

    def _augmented(self, indices: Tensor, generator: torch.Generator) -> Batch:
        """Rotate by right angles, mirror, permute the color channels: all images in the same way.

        None of this changes a shape's kind or area.
        """
        images, label_maps = self.pool.images[indices], self.pool.label_maps[indices]
        turns = int(torch.randint(4, (), generator=generator))
        images, label_maps = images.rot90(turns, (1, 2)), label_maps.rot90(turns, (1, 2))
        if torch.rand((), generator=generator) < 0.5:
            images, label_maps = images.flip(2), label_maps.flip(2)
        images = images[..., torch.randperm(3, generator=generator)]
        if self.task == "segment":
            return Batch(images, label_maps)
        return Batch(images, self.pool.largest[indices], label_maps)
