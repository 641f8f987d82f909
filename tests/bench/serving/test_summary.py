import math

import pytest

from bench.serving import summary
from bench.serving.summary import Limit, Load, Round, Turn, median_of, percentile

LIMIT = Limit(rate=500.0, cpu_ms=2.5, alone_ms=3.0)
CROWD, ALONE = Load(concurrency=32), Load(concurrency=1)


def turn(**changes):
    usual = {"rate": 400.0, "p50": 4.0, "p95": 6.0, "p99": 9.0, "errors": 0, "cpu_ms": 3.0}
    return Turn(**{**usual, "generator": 0.2, "foreign": 0.01, **changes})


def test_a_percentile_is_the_least_value_with_that_many_not_above_it():
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    assert percentile([3.0, 1.0, 2.0], 0.0) == 1


def test_a_percentile_of_nothing_is_no_number():
    assert math.isnan(percentile([], 0.5))


def test_the_share_counts_the_cores_that_the_generator_left():
    assert summary.share(turn(), LIMIT, cores=2) == pytest.approx(400 / (500 * 0.9))
    assert summary.share(turn(generator=0.0), LIMIT, cores=2) == pytest.approx(0.8)


def test_ratios_are_to_the_loop():
    assert summary.cpu_ratio(turn(), LIMIT) == pytest.approx(1.2)
    assert summary.overhead_ms(turn(), LIMIT) == pytest.approx(1.0)
    assert summary.tail(turn()) == pytest.approx(2.25)


def test_a_tail_of_nothing_is_no_number():
    assert math.isnan(summary.tail(turn(p50=0.0)))


def test_a_ratio_is_taken_within_a_round_before_the_median():
    slow = Limit(rate=250.0, cpu_ms=5.0, alone_ms=6.0)
    rounds = [
        Round(LIMIT, {("ours", CROWD): turn(rate=400.0, generator=0.0)}),
        Round(slow, {("ours", CROWD): turn(rate=200.0, generator=0.0)}),
        Round(LIMIT, {("ours", CROWD): turn(rate=450.0, generator=0.0)}),
    ]
    share = median_of(rounds, "ours", CROWD, lambda t, limit: summary.share(t, limit, 2))
    assert share == pytest.approx(0.8)


def test_a_server_that_never_ran_has_no_figure():
    rounds = [Round(LIMIT, {("ours", CROWD): turn()})]
    assert math.isnan(median_of(rounds, "ours", ALONE, lambda t, limit: t.rate))
    assert math.isnan(median_of(rounds, "theirs", CROWD, lambda t, limit: t.rate))


def test_loads_say_how_they_ask():
    assert str(CROWD) == "closed, 32"
    assert str(Load(part=0.5)) == "open, 50%"
