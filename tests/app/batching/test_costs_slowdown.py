"""The slowdown of a device, from the ends of its batches."""

import pytest

from app.batching.costs import Slowdown


def end(slowdown: Slowdown, now: float, taken_s: float, **changes) -> None:
    options = {"cost_s": 0.1, "lanes": 1, "busy": True} | changes
    slowdown.batch_ended(now, taken_s=taken_s, **options)


def test_batches_that_end_as_often_as_their_costs_predict_are_not_slow():
    slowdown = Slowdown()
    for number in range(30):
        end(slowdown, now=0.1 * number, taken_s=0.1)
    assert slowdown.slowness.value == pytest.approx(1.0)


def test_the_time_between_the_ends_counts_and_not_the_duration_of_a_batch():
    slowdown = Slowdown()
    for number in range(100):
        end(slowdown, now=0.2 * number, taken_s=0.1)  # another queue runs every second batch
    assert slowdown.slowness.value == pytest.approx(2.0, rel=0.01)


def test_several_lanes_end_batches_more_often():
    slowdown = Slowdown()
    for number in range(100):
        end(slowdown, now=0.05 * number, taken_s=0.1, lanes=2)
    assert slowdown.slowness.value == pytest.approx(1.0)


def test_idle_time_does_not_count():
    slowdown = Slowdown()
    for number in range(50):
        end(slowdown, now=10.0 * number, taken_s=0.1, busy=False)
    assert slowdown.slowness.value == pytest.approx(1.0)


def test_a_single_fast_batch_ends_a_slowdown():
    slowdown = Slowdown()
    slowdown.slowness.value = 40.0  # it was interrupted once
    end(slowdown, now=0.0, taken_s=0.2)
    assert slowdown.slowness.value == pytest.approx(2.0)


def test_a_batch_of_unknown_cost_is_ignored():
    slowdown = Slowdown()
    end(slowdown, now=0.0, taken_s=0.1, cost_s=0.0)
    end(slowdown, now=1.0, taken_s=0.1, cost_s=0.0)
    assert slowdown.slowness.value == 1.0
