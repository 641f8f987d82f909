"""Batches of a dataset: in a random order, augmented, decoded by a few threads ahead of time.

Does not know what is learnt. Every random number follows from the seed, the round and the
example, so that a run that was interrupted goes on with what it would have had.
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

THREADS = 4  # that read and augment, next to the one that trains
AHEAD = 3  # batches


@dataclass(frozen=True)
class Feed:
    """A dataset as a network is to see it while it learns; `preprocessing` must say one size."""

    dataset: Dataset
    preprocessing: Preprocessing
    augmentation: Augmentation
    batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches in a round."""
        return ceil(len(self.dataset) / self.batch_size)

    def round(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Each example once, from batch `start` on; the batches are of one size, give or take 1."""
        order = np.random.default_rng((self.seed, number)).permutation(len(self.dataset))
        rows = deque(np.array_split(order, self.steps)[start:])
        waiting: deque[list[Future[Example]]] = deque()
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                while rows or waiting:
                    while rows and len(waiting) < AHEAD:
                        row = rows.popleft().tolist()
                        waiting.append([pool.submit(self.example, number, i) for i in row])
                    yield stack([future.result() for future in waiting.popleft()])
            finally:
                pool.shutdown(cancel_futures=True)

    def example(self, number: int, index: int) -> Example:
        """An example as it is seen in that round."""
        rng = np.random.default_rng((self.seed, number, index))
        size, resample = self.preprocessing.input_size, self.preprocessing.resample
        if size is None:
            raise ValueError("a batch needs one size of picture; the preprocessing says none")
        return self.augmentation(self.dataset.read(index), rng, size, resample)


def as_served(dataset: Dataset, preprocessing: Preprocessing, size: int) -> Iterator[list[Example]]:
    """All examples in their order, `size` at a time, as the service sees them: not augmented.

    The pictures are at the network's input size, the truth is as it was read.
    """

    def read(index: int) -> Example:
        image, truth = dataset.read(index)
        return Example(fit(image, preprocessing), truth)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(dataset), size):
            yield list(pool.map(read, range(start, min(start + size, len(dataset)))))


def stack(examples: list[Example]) -> Batch:
    """Examples of one size side by side."""
    images = torch.from_numpy(np.stack([np.asarray(image) for image, _ in examples]))
    truths = [truth for _, truth in examples]
    if isinstance(truths[0], int):
        return Batch(images, torch.tensor(truths))  # (B,)
    return Batch(images, torch.from_numpy(np.stack(truths)))  # (B, h, w)
