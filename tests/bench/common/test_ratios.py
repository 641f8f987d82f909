import math
import random

import pytest

from bench.common.ratios import median_interval, order_rank, paired_ratio


@pytest.mark.parametrize(("count", "rank"), [(1, 0), (5, 0), (6, 1), (8, 1), (9, 2), (15, 4)])
def test_ranks_of_the_limits_equal_the_tables(count, rank):
    assert order_rank(count) == rank


def test_an_interval_has_order_statistics_as_limits():
    interval = median_interval([float(value) for value in range(15, 0, -1)])
    assert interval == (8.0, 4.0, 12.0)
    assert str(interval) == "8.000 (4.000 to 12.000)"


def test_few_samples_have_a_median_without_an_interval():
    interval = median_interval([3.0, 1.0, 2.0])
    assert interval.median == 2.0
    assert math.isnan(interval.low)
    assert str(interval) == "2.000 (too few rounds for an interval)"


def test_a_ratio_is_taken_within_a_round():
    assert paired_ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]).median == 2.0


def test_a_ratio_to_zero_has_no_value():
    assert math.isnan(paired_ratio([1.0, 1.0], [1.0, 0.0]).median)


def test_the_interval_contains_the_true_median_in_95_of_100_samples():
    source = random.Random(0)  # noqa: S311  # not a secret
    intervals = [median_interval([source.expovariate(1.0) for _ in range(15)]) for _ in range(1000)]
    assert sum(one.low <= math.log(2) <= one.high for one in intervals) >= 950
