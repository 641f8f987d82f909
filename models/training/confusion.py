"""A confusion matrix of images or pixels, with accuracy, precision, recall, F1 and IoU."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.registry import Task

TOP = 5  # best labels of an image, among which its true label is looked for
MOST = 2_000  # labels with a row each: a matrix of 32 MB


@dataclass(frozen=True)
class Confusion:
    """Counts by true label (rows) and predicted label (columns).

    `top_5_hits` is the number of images whose true label is one of the five best; None for pixels,
    and for images with five labels or fewer.
    """

    labels: tuple[str, ...]
    counts: NDArray[np.int64]
    top_5_hits: int | None = None

    @classmethod
    def of(
        cls, labels: tuple[str, ...], truth: NDArray[np.integer], predicted: NDArray[np.integer]
    ) -> "Confusion":
        """Count the pairs of two arrays of one shape that hold indices into the labels."""
        pairs = truth.astype(np.int64).ravel() * len(labels) + predicted.astype(np.int64).ravel()
        counts = np.bincount(pairs, minlength=len(labels) ** 2)
        return cls(labels, counts.reshape(len(labels), len(labels)))

    @classmethod
    def of_images(
        cls, labels: tuple[str, ...], truth: NDArray[np.integer], ranked: NDArray[np.integer]
    ) -> "Confusion":
        """Count the true labels (N,) of images and their best labels (N, TOP or fewer).

        Of more than MOST labels, the matrix has only those that occur.
        """
        hits = int((ranked == truth[:, None]).any(1).sum()) if len(labels) > TOP else None
        predicted = ranked[:, 0]
        if len(labels) > MOST:
            occurring, pairs = np.unique([truth, predicted], return_inverse=True)
            labels = tuple(labels[index] for index in occurring)
            truth, predicted = pairs.reshape(2, -1)
        return cls(labels, cls.of(labels, truth, predicted).counts, hits)

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.labels, self.counts + other.counts)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def support(self) -> NDArray[np.int64]:
        """The number of images or pixels of each true label."""
        return self.counts.sum(1)

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.counts) / self.total)

    @property
    def recall(self) -> NDArray[np.float64]:
        """The fraction of each true label that was predicted; nan for labels without truth."""
        return self._hits_of(self.support)

    @property
    def precision(self) -> NDArray[np.float64]:
        """The fraction of each predicted label that is true; nan for labels never predicted."""
        return self._hits_of(self.counts.sum(0))

    @property
    def f1(self) -> NDArray[np.float64]:
        """The harmonic mean of precision and recall; nan for a label that never occurs."""
        return self._hits_of((self.counts.sum(0) + self.support) / 2)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each label; nan for a label that never occurs."""
        return self._hits_of(self.counts.sum(0) + self.support - np.diag(self.counts))

    @property
    def mean_iou(self) -> float:
        return float(np.nanmean(self.iou))

    def occurring(self) -> "Confusion":
        """Return the matrix of the labels that are true or predicted at least once."""
        kept = np.flatnonzero(self.counts.sum(0) + self.support)
        labels = tuple(self.labels[index] for index in kept)
        return Confusion(labels, self.counts[np.ix_(kept, kept)], self.top_5_hits)

    def summary(self, task: Task) -> dict[str, float]:
        """Return the overall quality for the task, by name."""
        if task == "segment":
            return {"mean_iou": self.mean_iou, "pixel_accuracy": self.accuracy}
        result = {"accuracy": self.accuracy}
        if self.top_5_hits is not None:
            result["top_5_accuracy"] = self.top_5_hits / self.total
        return result

    def _hits_of(self, whole: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return np.diag(self.counts) / whole.astype(np.float64)
