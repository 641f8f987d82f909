import math

import pytest

from bench.common.cpu import UsageDelta
from bench.common.resources import ResourceSample
from bench.serving import burst, burst_report
from bench.serving.burst import Times
from bench.serving.burst_cases import Case, CaseResult
from bench.serving.burst_plot import draw
from bench.serving.records import LOST, Record

TIMES = Times(10.0, 20.0)


def ok(sent, taken, status=200):
    return Record(sent, sent, sent + taken, status)


def no(sent, retry_ms, header=None):
    header = math.ceil(retry_ms / 1000) if header is None else header
    return Record(sent, sent + 0.001, sent + 0.003, 503, "overloaded", True, header, retry_ms)


def calm(begin, end, taken=0.1):
    return [ok(begin + n / 2, taken) for n in range(round(2 * (end - begin)))]


def test_goodput_counts_results_during_the_burst():
    records = [ok(9.5, 1), ok(12, 1), ok(19.5, 1), ok(12, 1, 504), no(13, 900)]
    assert burst.goodput(records, TIMES) == pytest.approx(0.2)


def test_the_real_wait_at_a_refusal_is_interpolated():
    records = [ok(11.0, 2.0), no(11.999, 2500.0), ok(13.0, 3.0)]
    assert burst.prediction(records, TIMES).ratios == pytest.approx([1.0])


def test_a_request_that_missed_its_deadline_counts_as_a_wait():
    records = [ok(11.0, 2.0, 504), no(12, 1000.0)]
    assert burst.prediction(records, TIMES).ratios == pytest.approx([0.5])


def test_correct_predictions_by_mean_some_and_any_jitter():
    records = [ok(11.0, 1.0), *(no(12, ms) for ms in (550, 700, 800, 2200, 2800, 3500))]
    prediction = burst.prediction(records, TIMES)
    assert prediction.within == pytest.approx(3 / 6)  # 0.625 to 2.5
    assert prediction.possible == pytest.approx(5 / 6)  # 0.5 to 3
    assert prediction.certain == pytest.approx(1 / 6)  # 0.75 to 2


def test_refusals_outside_the_burst_are_no_predictions():
    prediction = burst.prediction([ok(11.0, 1.0), no(25, 1000)], TIMES)
    assert prediction.ratios == []
    assert math.isnan(prediction.within)


def test_interpolation_keeps_the_nearest_value_outside_the_points():
    points = [(0.0, 1.0), (2.0, 3.0)]
    assert [burst.interpolate(points, at) for at in (-1, 0, 0.5, 2, 9)] == [1, 1, 1.5, 3, 3]


def test_other_outcomes_are_counted_by_status_and_code():
    odd = [Record(11, 11, 12, 500, "internal"), Record(11, 11, 12, LOST), ok(11, 1), no(11, 900)]
    assert burst.others([*odd, odd[1]]) == {"500 internal": 1, "lost": 2}


@pytest.mark.parametrize(
    ("retry_ms", "header", "whole"), [(1000, 1, True), (1001, 1, False), (math.nan, 1, False)]
)
def test_a_refusal_is_complete_when_its_header_is_the_ceiling_of_its_body(retry_ms, header, whole):
    assert burst.complete(no(11, retry_ms, header)) is whole


def test_latency_is_normal_from_the_first_of_five_calm_requests_in_a_row():
    backlog = ok(19.0, 4.0)
    late = [ok(20.0, 3.0), ok(20.5, 0.1), ok(21.0, 2.0), *calm(21.5, 30)]
    result = burst.recovery([*calm(0, 10), backlog, *late], TIMES)
    assert result == pytest.approx((1.5, 0.0, 3.0))


def test_recovery_counts_from_the_end_of_the_backlog_too():
    late = [ok(20.0 + n / 2, 3.0) for n in range(8)]
    result = burst.recovery([*calm(0, 10), ok(19.0, 4.0), *late, *calm(24, 30)], TIMES)
    assert result == pytest.approx((4.0, 1.0, 3.0))


def test_latency_that_never_becomes_normal_is_nan():
    slow = [ok(20.0 + n, 3.0) for n in range(9)]
    result = burst.recovery([*calm(0, 10), *slow], TIMES)
    assert math.isnan(result.after_burst)
    assert math.isnan(result.after_backlog)


def test_responses_are_counted_in_the_second_of_their_end():
    assert burst.per_second([ok(0.0, 0.5), ok(0.2, 1.0), ok(5.0, 1.0)], 0.0, 3) == [1, 1, 0]


@pytest.fixture
def result():
    accepted = [ok(10 + n / 10, 1.0) for n in range(100)]
    refused = [no(10 + n / 10, 1250) for n in range(100)]
    records = [*calm(0, 10), *accepted, *refused, *calm(20, 40)]
    samples = [ResourceSample(second / 2, 500.0, 20, 30) for second in range(80)]
    share = UsageDelta(10.0, {"service": 18.0, "generator": 1.0}, 0.01)
    case = Case("T", 5.0, 32, 10.0, 3.0, 1)
    return CaseResult(case, 10.0, records, TIMES, share, samples, 2, 0, 10.1)


def test_the_table_has_a_column_for_each_case_and_a_target(result):
    lines = burst_report.lines([result, result])
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    cells = {row[0]: row[1:] for row in table}
    assert (
        cells["complete refusals (problem, `Retry-After` the ceiling of its value)"][0]
        == "100 of 100"
    )
    assert cells["`retry_after_ms` over the real wait: p5, p50, p95"][0] == "1.25, 1.25, 1.25"
    assert cells["other responses, lost connections"][0] == "2 without a free connection"
    assert cells["accepted, then 504"][0] == "0.00% of 100"


def test_goodput_is_also_relative_to_the_cores_that_the_generator_leaves(result, monkeypatch):
    monkeypatch.setattr(burst_report, "CORES", 2)
    assert burst_report.goodput(result) == "0.900 (0.947)"


def test_memory_counts_from_second_10_on(result):
    assert burst_report.memory(result) == "the burst is too short"
    long = result._replace(times=Times(10.0, 39.0))
    assert burst_report.memory(long) == "500, +0.0, 0.0 (0.0 to 0.0)"


def test_the_plot_is_drawn(result, tmp_path):
    draw([result, result], tmp_path / "overload.png")
    assert (tmp_path / "overload.png").stat().st_size > 10_000
