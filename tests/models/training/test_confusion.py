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


def test_precision_f1_and_support():
    confusion = Confusion.of(LABELS, TRUTH, PREDICTED)
    assert confusion.support.tolist() == [3, 2, 1]
    assert confusion.precision.tolist() == pytest.approx([1, 2 / 4, np.nan], nan_ok=True)
    assert confusion.f1.tolist() == pytest.approx([4 / 5, 4 / 6, 0])


def test_the_summary_fits_the_task():
    confusion = Confusion.of(LABELS, TRUTH, PREDICTED)
    assert confusion.summary("classify") == {"accuracy": confusion.accuracy}
    assert confusion.summary("segment") == {
        "mean_iou": confusion.mean_iou,
        "pixel_accuracy": confusion.accuracy,
    }


def test_images_are_counted_by_their_best_label_and_by_their_five_best():
    labels = tuple("abcdef")
    ranked = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [5, 4, 3, 2, 1]])
    confusion = Confusion.of_images(labels, np.array([0, 0, 0]), ranked)
    assert confusion.counts[0].tolist() == [1, 1, 0, 0, 0, 1]
    assert confusion.summary("classify")["top_5_accuracy"] == pytest.approx(2 / 3)
    few = Confusion.of_images(LABELS, np.array([0, 2]), np.array([[0, 1, 2], [0, 1, 2]]))
    assert few.summary("classify") == {"accuracy": 0.5}


def test_only_labels_that_occur_are_kept_on_request():
    confusion = Confusion.of(LABELS, np.array([0, 2]), np.array([2, 2])).occurring()
    assert confusion.labels == ("a", "c")
    assert confusion.counts.tolist() == [[0, 1], [0, 1]]


def test_many_thousand_labels_do_not_make_a_large_matrix():
    labels = tuple(map(str, range(20_000)))
    truth, ranked = np.array([19_999, 3, 3]), np.array([[19_999, 1], [7, 3], [3, 7]])
    confusion = Confusion.of_images(labels, truth, ranked)
    assert confusion.labels == ("3", "7", "19999")
    assert confusion.counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert confusion.summary("classify") == {"accuracy": pytest.approx(2 / 3), "top_5_accuracy": 1}
