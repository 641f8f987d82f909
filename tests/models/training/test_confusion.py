import numpy as np
import pytest

from models.training.confusion import Confusion

LABELS = ("a", "b", "c")
TRUTH, PREDICTED = np.array([[0, 0, 0], [1, 1, 2]]), np.array([[0, 0, 1], [1, 1, 1]])


def test_rows_are_truth_and_columns_are_predictions():
    confusion = Confusion.of(LABELS, TRUTH, PREDICTED)
    assert confusion.counts.tolist() == [[2, 1, 0], [0, 2, 0], [0, 1, 0]]
    assert confusion.total == 6


def test_accuracy_recall_and_iou():
    confusion = Confusion.of(LABELS, TRUTH, PREDICTED)
    assert confusion.accuracy == pytest.approx(4 / 6)
    assert confusion.recall.tolist() == pytest.approx([2 / 3, 1, 0])
    assert confusion.iou.tolist() == pytest.approx([2 / 3, 2 / 4, 0])
    assert confusion.mean_iou == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)


def test_small_integers_do_not_overflow():
    labels = tuple(str(index) for index in range(100))
    all_last = np.full(9, 99, np.uint8)
    assert Confusion.of(labels, all_last, all_last).counts[99, 99] == 9


def test_the_sum_of_two_matrices():
    confusion = Confusion.of(LABELS, TRUTH, PREDICTED)
    assert (confusion + confusion).counts.tolist() == (2 * confusion.counts).tolist()


def test_a_label_that_never_occurs_is_not_in_the_mean():
    confusion = Confusion.of(LABELS, np.array([0, 1]), np.array([0, 1]))
    assert np.isnan(confusion.recall[2])
    assert confusion.mean_iou == 1
