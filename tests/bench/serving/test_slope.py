import math
import random

import pytest

from bench.serving.slope import autocorrelation, block_means, slope, student


def walk(seed, memory, rise=0.0):
    """Return 16 minutes of samples that are correlated over `memory` seconds."""
    source = random.Random(seed)  # noqa: S311  # not a secret
    correlation, value = math.exp(-1 / memory), 0.0
    values = []
    for second in range(960):
        noise = math.sqrt(1 - correlation**2) * source.gauss(0, 1)
        value = correlation * value + noise
        values.append(value + rise * second)
    return list(range(960)), values


def test_a_straight_line_has_its_slope_and_an_empty_interval():
    found = slope([0, 1, 2, 3, 4, 5], [1, 3, 5, 7, 9, 11])
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("memory", [1, 20])
def test_the_interval_contains_the_true_slope_for_correlated_samples(memory):
    found = [slope(*walk(seed, memory)) for seed in range(100)]
    assert sum(one.low <= 0 <= one.high for one in found) >= 90


def test_a_rise_is_distinguished_from_noise():
    found = slope(*walk(0, 20, rise=0.01))
    assert 0 < found.low < 0.01 < found.high


def test_blocks_have_equal_times_and_not_equal_counts():
    means = block_means([0, 0.5, 1, 16], [1, 2, 3, 9])
    assert means == [(0.25, 1.5), (1, 3), (16, 9)]


def test_too_few_samples_have_no_slope():
    with pytest.raises(ValueError, match="2 samples"):
        slope([0, 1], [1, 2])


def test_the_autocorrelation_of_residuals():
    assert autocorrelation([1, 1, 1, -1, -1, -1]) == pytest.approx(0.5)
    assert autocorrelation([1, -1, 1, -1]) == pytest.approx(-0.75)
    assert autocorrelation([0, 0]) == 0


@pytest.mark.parametrize(("freedom", "t"), [(5, 2.5706), (14, 2.1448), (100, 1.9840)])
def test_student_s_t_equals_the_tables(freedom, t):
    assert student(freedom) == pytest.approx(t, rel=2e-3)
