"""Batches of a data set in random order, decoded and augmented ahead of time by a few threads.

Every random number depends on the seed, the epoch and the example only, so that a resumed run gets
the same batches as an uninterrupted one.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from models.preprocessing import Preprocessing, fit
from models.training.data.augmentation import Augmentation
from models.training.data.examples import Batch, Dataset, Example

THREADS = 4  # that decode and augment, besides the training thread
AHEAD = 3  # batches that are prepared before they are needed


@dataclass(frozen=True)
class Feed:
    """A data set as batches for training; `preprocessing` must have a fixed input size."""

    dataset: Dataset
    preprocessing: Preprocessing
    augmentation: Augmentation
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """The number of batches in an epoch."""
        return ceil(len(self.dataset) / self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield each example once, from batch `start` on, in batches of nearly equal size."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.dataset))
        chunks = deque(np.array_split(order, self.steps)[start:])
        waiting: deque[list[Future[Example]]] = deque()
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                while chunks or waiting:
                    while chunks and len(waiting) < AHEAD:
                        chunk = chunks.popleft().tolist()
                        waiting.append([pool.submit(self.example, number, i) for i in chunk])
                    yield stack([future.result() for future in waiting.popleft()])
            finally:
                pool.shutdown(cancel_futures=True)

    def example(self, number: int, index: int) -> Example:
        """Return an example as it is augmented in that epoch."""
        rng = np.random.default_rng((self.seed, number, index))
        size, resample = self.preprocessing.input_size, self.preprocessing.resample
        if size is None:
            raise ValueError("a batch needs one image size; the preprocessing has none")
        return self.augmentation(self.dataset.read(index), rng, size, resample)


def as_served(dataset: Dataset, preprocessing: Preprocessing, size: int) -> Iterator[list[Example]]:
    """Yield all examples in order, `size` at a time, with the service's preprocessing.

    The images have the network's input size; the label maps are unchanged.
    """

    def read(index: int) -> Example:
        image, truth = dataset.read(index)
        return Example(fit(image, preprocessing), truth)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(dataset), size):
            yield list(pool.map(read, range(start, min(start + size, len(dataset)))))


def stack(examples: list[Example]) -> Batch:
    """Return a batch of examples of one size."""
    images = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
    truths = [truth for _, truth in examples]
    if isinstance(truths[0], int):
        return Batch(images, torch.tensor(truths))  # (B,)
    return Batch(images, torch.from_numpy(np.stack(truths)))  # (B, h, w)
