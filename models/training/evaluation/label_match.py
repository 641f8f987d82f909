"""Matches the labels of the data with those of a checkpoint, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import Checkpoint
from models.checkpoint.parameter_names import join_names
from models.training.data.examples import IGNORED, MOST_LABELS, Dataset, Example

NAMED, LONGEST = 5, 40  # labels in an error message, and characters of each


@dataclass(frozen=True)
class Relabeled:
    """Data sets in a row, whose labels are replaced by those of a table: (data labels,)."""

    datasets: tuple[Dataset, ...]
    table: NDArray[np.int64]

    def __len__(self) -> int:
        return sum(map(len, self.datasets))

    def name(self, index: int) -> str:
        dataset, index = self.place(index)
        return dataset.name(index)

    def read(self, index: int) -> Example:
        dataset, index = self.place(index)
        image, truth = dataset.read(index)
        if isinstance(truth, int):
            return Example(image, int(self.table[truth]))
        labels = np.full(256, IGNORED, np.uint8)
        labels[: len(self.table)] = self.table
        return Example(image, labels[truth])

    def check(self, index: int) -> None:
        dataset, index = self.place(index)
        dataset.check(index)

    def take(self, indices: Sequence[int]) -> "Relabeled":
        places = [self.place(index) for index in indices]
        return Relabeled(tuple(dataset.take([index]) for dataset, index in places), self.table)

    def place(self, index: int) -> tuple[Dataset, int]:
        """Return the data set of an example, and its index there; IndexError beyond the last."""
        for dataset in self.datasets:
            if index < len(dataset):
                return dataset, index
            index -= len(dataset)
        raise IndexError(index)


def matched(labels: tuple[str, ...], checkpoint: Checkpoint) -> NDArray[np.int64]:
    """Return the checkpoint's label of each of the data's labels.

    The first label of masks may be missing if the checkpoint was trained without it
    (`do_reduce_labels`); its pixels do not count.

    Raises:
        ValueError: a label is missing or ambiguous, or the checkpoint has no labels to compare.
    """
    theirs = checkpoint.labels
    if checkpoint.problem_type == "regression":
        raise ValueError(f"{checkpoint.name} computes values (regression), which are not labels")
    if checkpoint.task == "segment" and len(theirs) > MOST_LABELS:
        raise ValueError(f"{checkpoint.name} has {len(theirs)} labels; masks have {MOST_LABELS}")
    reduced = checkpoint.task == "segment" and checkpoint.preprocessing.reduce_labels
    optional = labels[:1] if reduced else ()
    if missing := [label for label in labels if label not in theirs and label not in optional]:
        raise ValueError(
            f"{len(missing)} of the data's {len(labels)} labels are not labels of "
            f"{checkpoint.name}: {few(missing)}; it has {len(theirs)} labels: "
            f"{few(theirs)}. Labels are matched by name: {advice(checkpoint)}"
        )
    if double := [label for label in labels if theirs.count(label) > 1]:
        raise ValueError(f"{checkpoint.name} has several labels called {double[0]}")
    return np.array([theirs.index(label) if label in theirs else IGNORED for label in labels])


def advice(checkpoint: Checkpoint) -> str:
    """Say how the data can get the checkpoint's labels."""
    where = "folders" if checkpoint.task == "classify" else "lines of labels.txt"
    return f"rename the {where} as in the checkpoint's id2label (config.json)"


def few(labels: Sequence[str]) -> str:
    """Return the first labels, shortened, for an error message."""
    names = [label if len(label) <= LONGEST else f"{label[:LONGEST]}..." for label in labels]
    return join_names(names, NAMED)
