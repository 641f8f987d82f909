"""How slow a device is found to be, from the ends of its batches."""

import pytest

from app.batching.costs import Slowdown


def end(drain: Slowdown, now: float, taken_s: float, **changes) -> None:
    options = {"cost_s": 0.1, "lanes": 1, "busy": True} | changes
    drain.batch_ended(now, taken_s=taken_s, **options)


def test_batches_that_end_as_often_as_they_cost_are_not_slow():
    drain = Slowdown()
    for number in range(30):
        end(drain, now=0.1 * number, taken_s=0.1)
    assert drain.slowness == pytest.approx(1.0)


def test_the_time_between_batches_tells_and_not_what_one_takes():
    drain = Slowdown()
    for number in range(100):
        end(drain, now=0.2 * number, taken_s=0.1)  # every other turn is another queue's
    assert drain.slowness == pytest.approx(2.0, rel=0.01)


def test_lanes_that_work_at_once_end_more_often():
    drain = Slowdown()
    for number in range(100):
        end(drain, now=0.05 * number, taken_s=0.1, lanes=2)
    assert drain.slowness == pytest.approx(1.0)


def test_the_time_that_a_lane_was_idle_does_not_count():
    drain = Slowdown()
    for number in range(50):
        end(drain, now=10.0 * number, taken_s=0.1, busy=False)
    assert drain.slowness == pytest.approx(1.0)


def test_one_batch_alone_shows_that_the_device_is_not_as_slow_as_it_was():
    drain = Slowdown()
    drain.slowness = 40.0  # it was held up once
    end(drain, now=0.0, taken_s=0.2)
    assert drain.slowness == pytest.approx(2.0)


def test_a_cost_that_was_not_measured_tells_nothing():
    drain = Slowdown()
    end(drain, now=0.0, taken_s=0.1, cost_s=0.0)
    end(drain, now=1.0, taken_s=0.1, cost_s=0.0)
    assert drain.slowness == 1.0
