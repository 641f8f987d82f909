"""A confusion matrix: how often what was said of what was true, and the figures that follow.

Does not know whether images or pixels were counted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Counts by truth (rows) and answer (columns)."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    @classmethod
    def of(
        cls, labels: tuple[str, ...], truth: NDArray[np.integer], answer: NDArray[np.integer]
    ) -> "Confusion":
        """Count two arrays of the same shape that hold indices into the labels."""
        pairs = truth.astype(np.int64).ravel() * len(labels) + answer.astype(np.int64).ravel()
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
        """By label: the part of what is true that was said; nan for what never was true."""
        with np.errstate(invalid="ignore"):
            return np.diag(self.counts) / self.counts.sum(1)

    @property
    def iou(self) -> NDArray[np.float64]:
        """By label: where both say it, in parts of where either does; nan where neither does."""
        hits = np.diag(self.counts)
        with np.errstate(invalid="ignore"):
            return hits / (self.counts.sum(0) + self.counts.sum(1) - hits)

    @property
    def mean_iou(self) -> float:
        return float(np.nanmean(self.iou))
