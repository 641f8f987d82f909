"""A confusion matrix of images or pixels, with accuracy, recall and IoU."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Counts by true label (rows) and predicted label (columns)."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    @classmethod
    def of(
        cls, labels: tuple[str, ...], truth: NDArray[np.integer], predicted: NDArray[np.integer]
    ) -> "Confusion":
        """Count the pairs of two arrays of one shape that hold indices into the labels."""
        pairs = truth.astype(np.int64).ravel() * len(labels) + predicted.astype(np.int64).ravel()
        counts = np.bincount(pairs, minlength=len(labels) ** 2)
        return cls(labels, counts.reshape(len(labels), len(labels)))

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.labels, self.counts + other.counts)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.counts) / self.total)

    @property
    def recall(self) -> NDArray[np.float64]:
        """The fraction of each true label that was predicted; nan for labels without truth."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.counts) / self.counts.sum(1)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each label; nan for a label that never occurs."""
        hits = np.diag(self.counts)
        with np.errstate(invalid="ignore"):
            return hits / (self.counts.sum(0) + self.counts.sum(1) - hits)

    @property
    def mean_iou(self) -> float:
        return float(np.nanmean(self.iou))
