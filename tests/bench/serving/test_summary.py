import math

import pytest

from bench.serving import summary
from bench.serving.summary import Load, LoopFigures, Measurement, Round, median_of, percentile

LOOP = LoopFigures(rate=500.0, cpu_ms=2.5, single_ms=3.0)
MANY, ONE = Load(concurrency=32), Load(concurrency=1)


def measurement(**changes):
    usual = {"rate": 400.0, "p50": 4.0, "p95": 6.0, "p99": 9.0, "errors": 0, "cpu_ms": 3.0}
    return Measurement(**{**usual, "generator": 0.2, "foreign": 0.01, **changes})


def test_a_percentile_is_the_nearest_rank():
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    assert percentile([3.0, 1.0, 2.0], 0.0) == 1


def test_a_percentile_without_values_is_nan():
    assert math.isnan(percentile([], 0.5))


def test_the_rate_ratio_counts_the_cores_that_the_generator_leaves():
    assert summary.rate_ratio(measurement(), LOOP, cores=2) == pytest.approx(400 / (500 * 0.9))
    assert summary.rate_ratio(measurement(generator=0.0), LOOP, cores=2) == pytest.approx(0.8)


def test_ratios_are_to_the_bare_loop():
    assert summary.cpu_ratio(measurement(), LOOP) == pytest.approx(1.2)
    assert summary.overhead_ms(measurement(), LOOP) == pytest.approx(1.0)
    assert summary.tail_ratio(measurement()) == pytest.approx(2.25)


def test_a_tail_without_latency_is_nan():
    assert math.isnan(summary.tail_ratio(measurement(p50=0.0)))


def test_a_ratio_is_taken_within_a_round_before_the_median():
    slow = LoopFigures(rate=250.0, cpu_ms=5.0, single_ms=6.0)
    rounds = [
        Round(LOOP, {("ours", MANY): measurement(rate=400.0, generator=0.0)}),
        Round(slow, {("ours", MANY): measurement(rate=200.0, generator=0.0)}),
        Round(LOOP, {("ours", MANY): measurement(rate=450.0, generator=0.0)}),
    ]
    rate_ratio = median_of(rounds, "ours", MANY, lambda t, loop: summary.rate_ratio(t, loop, 2))
    assert rate_ratio == pytest.approx(0.8)


def test_a_server_that_was_not_measured_has_no_figure():
    rounds = [Round(LOOP, {("ours", MANY): measurement()})]
    assert math.isnan(median_of(rounds, "ours", ONE, lambda t, loop: t.rate))
    assert math.isnan(median_of(rounds, "theirs", MANY, lambda t, loop: t.rate))


def test_loads_have_short_names():
    assert str(MANY) == "closed, 32"
    assert str(Load(fraction=0.5)) == "open, 50%"
