from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models.checkpoint import bundled, load
from models.training.data.examples import Example
from models.training.evaluation.label_match import Relabeled, few, matched

CLASSIFIER, SEGMENTER = load(bundled("classify")), load(bundled("segment"))


class Numbers:
    """Examples whose truths are given."""

    def __init__(self, *truths):
        self.truths = truths

    def __len__(self):
        return len(self.truths)

    def name(self, index):
        return f"image {index} of {len(self)}"

    def read(self, index):
        return Example(Image.new("RGB", (2, 1)), self.truths[index])

    def check(self, index):
        self.read(index)

    def take(self, indices):
        return Numbers(*(self.truths[index] for index in indices))


def test_labels_are_matched_by_name():
    assert matched(("ring", "circle"), CLASSIFIER).tolist() == [4, 0]
    assert matched(CLASSIFIER.labels, CLASSIFIER).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_mismatch_names_a_few_labels_and_what_to_do():
    many = replace(CLASSIFIER, labels=tuple(f"label {index}" for index in range(1000)))
    with pytest.raises(ValueError, match="of the data's 6 labels are not labels of") as caught:
        matched(CLASSIFIER.labels, many)
    assert str(caught.value) == (
        "6 of the data's 6 labels are not labels of shapes-vit: circle, square, triangle, star, "
        "ring and 1 more; it has 1000 labels: label 0, label 1, label 2, label 3, label 4 and 995 "
        "more. Labels are matched by name: rename the folders as in the checkpoint's id2label "
        "(config.json)"
    )
    assert few(["x" * 1000]) == "x" * 40 + "..."


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (replace(CLASSIFIER, problem_type="regression"), "computes values"),
        (replace(CLASSIFIER, labels=("ring", *CLASSIFIER.labels)), "several labels called ring"),
        (replace(SEGMENTER, labels=tuple(map(str, range(300)))), "has 300 labels; masks have 255"),
    ],
)
def test_a_checkpoint_whose_labels_cannot_be_compared_is_refused(checkpoint, message):
    with pytest.raises(ValueError, match=message):
        matched(("ring",), checkpoint)


def test_the_label_that_the_training_left_out_may_be_missing():
    reducing = replace(SEGMENTER.preprocessing, reduce_labels=True)
    checkpoint = replace(SEGMENTER, preprocessing=reducing)
    assert matched(("other", "circle"), checkpoint).tolist() == [255, 1]
    with pytest.raises(ValueError, match="1 of the data's 2 labels"):
        matched(("circle", "other"), checkpoint)
    reducing = replace(CLASSIFIER.preprocessing, reduce_labels=True)  # it is only for masks
    with pytest.raises(ValueError, match="1 of the data's 2 labels"):
        matched(("other", "circle"), replace(CLASSIFIER, preprocessing=reducing))


def test_data_sets_in_a_row_have_the_labels_of_the_table():
    row = Relabeled((Numbers(0, 1), Numbers(2)), np.array([7, 8, 9]))
    assert [row.read(index).truth for index in range(len(row))] == [7, 8, 9]
    assert [row.read(0).truth for row in (row.take([2]), row.take([1]))] == [9, 8]
    assert row.name(2) == "image 0 of 1"
    row.check(2)
    with pytest.raises(IndexError):
        row.read(3)


def test_pixels_without_a_label_stay_without_one():
    row = Relabeled((Numbers(np.array([[0, 1, 255]], np.uint8)),), np.array([3, 255]))
    assert row.read(0).truth.tolist() == [[3, 255, 255]]
    assert row.read(0).truth.dtype == np.uint8
