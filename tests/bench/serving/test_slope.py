import math
import random

import pytest

from bench.serving.slope import block_means, likeness, slope, student


def walk(seed, memory, rise=0.0):
    """16 minutes of samples that forget their past in so many seconds."""
    source = random.Random(seed)  # noqa: S311  # not a secret
    kept, at = math.exp(-1 / memory), 0.0
    values = []
    for second in range(960):
        at = kept * at + math.sqrt(1 - kept**2) * source.gauss(0, 1)
        values.append(at + rise * second)
    return list(range(960)), values


def test_a_straight_line_has_its_slope_and_no_doubt():
    found = slope([0, 1, 2, 3, 4, 5], [1, 3, 5, 7, 9, 11])
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("memory", [1, 20])
def test_the_interval_holds_the_true_slope_nine_times_in_ten_though_neighbours_are_alike(memory):
    found = [slope(*walk(seed, memory)) for seed in range(100)]
    assert sum(one.low <= 0 <= one.high for one in found) >= 90


def test_a_rise_is_told_from_noise():
    found = slope(*walk(0, 20, rise=0.01))
    assert 0 < found.low < 0.01 < found.high


def test_samples_are_taken_together_by_time_and_not_by_number():
    means = block_means([0, 0.5, 1, 16], [1, 2, 3, 9])
    assert means == [(0.25, 1.5), (1, 3), (16, 9)]


def test_too_few_samples_have_no_slope():
    with pytest.raises(ValueError, match="2 samples"):
        slope([0, 1], [1, 2])


def test_residuals_that_stay_on_a_side_are_alike_and_those_that_alternate_are_not():
    assert likeness([1, 1, 1, -1, -1, -1]) == pytest.approx(0.5)
    assert likeness([1, -1, 1, -1]) == pytest.approx(-0.75)
    assert likeness([0, 0]) == 0


@pytest.mark.parametrize(("freedom", "t"), [(5, 2.5706), (14, 2.1448), (100, 1.9840)])
def test_student_s_t_is_that_of_the_tables(freedom, t):
    assert student(freedom) == pytest.approx(t, rel=2e-3)
