"""The exponential moving average."""

import pytest

from app.batching.costs import MovingAverage


def test_a_sample_moves_the_average_by_its_weight():
    average = MovingAverage(1.0, weight=0.1)
    average.add(2.0)
    assert average.value == pytest.approx(1.1)


def test_equal_samples_become_the_average():
    average = MovingAverage(0.0, weight=0.05)
    for _ in range(200):
        average.add(0.5)
    assert average.value == pytest.approx(0.5, rel=0.001)
