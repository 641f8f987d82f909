import math

import pytest

from bench.common.cpu import Share
from bench.common.resources import Held
from bench.serving import burst, burst_report
from bench.serving.burst import Times
from bench.serving.burst_cases import Case, Found
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


def test_goodput_counts_what_was_answered_well_during_the_burst():
    records = [ok(9.5, 1), ok(12, 1), ok(19.5, 1), ok(12, 1, 504), no(13, 900)]
    assert burst.goodput(records, TIMES) == pytest.approx(0.2)


def test_the_wait_at_a_refusal_lies_between_those_admitted_before_and_after():
    records = [ok(11.0, 2.0), no(11.999, 2500.0), ok(13.0, 3.0)]
    assert burst.prediction(records, TIMES).ratios == pytest.approx([1.0])


def test_who_was_given_up_at_the_deadline_has_waited_too():
    records = [ok(11.0, 2.0, 504), no(12, 1000.0)]
    assert burst.prediction(records, TIMES).ratios == pytest.approx([0.5])


def test_shares_take_the_jitter_out_by_its_mean_by_any_and_by_all():
    records = [ok(11.0, 1.0), *(no(12, ms) for ms in (550, 700, 800, 2200, 2800, 3500))]
    said = burst.prediction(records, TIMES)
    assert said.within == pytest.approx(3 / 6)  # 0.625 to 2.5
    assert said.possible == pytest.approx(5 / 6)  # 0.5 to 3
    assert said.certain == pytest.approx(1 / 6)  # 0.75 to 2


def test_refusals_outside_the_burst_foretell_nothing():
    said = burst.prediction([ok(11.0, 1.0), no(25, 1000)], TIMES)
    assert said.ratios == []
    assert math.isnan(said.within)


def test_a_line_is_followed_between_its_points_and_not_beyond():
    points = [(0.0, 1.0), (2.0, 3.0)]
    assert [burst.between(points, at) for at in (-1, 0, 0.5, 2, 9)] == [1, 1, 1.5, 3, 3]


def test_whatever_is_neither_admitted_nor_refused_is_named():
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
    found = burst.recovery([*calm(0, 10), backlog, *late], TIMES)
    assert found == pytest.approx((1.5, 0.0, 3.0))


def test_recovery_counts_from_the_end_of_the_backlog_too():
    late = [ok(20.0 + n / 2, 3.0) for n in range(8)]
    found = burst.recovery([*calm(0, 10), ok(19.0, 4.0), *late, *calm(24, 30)], TIMES)
    assert found == pytest.approx((4.0, 1.0, 3.0))


def test_latency_that_never_becomes_normal_is_no_number():
    slow = [ok(20.0 + n, 3.0) for n in range(9)]
    found = burst.recovery([*calm(0, 10), *slow], TIMES)
    assert math.isnan(found.after_burst)
    assert math.isnan(found.after_backlog)


def test_answers_are_counted_in_the_second_they_came():
    assert burst.per_second([ok(0.0, 0.5), ok(0.2, 1.0), ok(5.0, 1.0)], 0.0, 3) == [1, 1, 0]


@pytest.fixture
def found():
    admitted = [ok(10 + n / 10, 1.0) for n in range(100)]
    refused = [no(10 + n / 10, 1250) for n in range(100)]
    records = [*calm(0, 10), *admitted, *refused, *calm(20, 40)]
    samples = [Held(second / 2, 500.0, 20, 30) for second in range(80)]
    share = Share(10.0, {"service": 18.0, "generator": 1.0}, 0.01)
    case = Case("T", 5.0, 10.0, 3.0, 1)
    return Found(case, 10.0, records, TIMES, share, samples, 2, 0, 10.1)


def test_the_table_has_a_column_for_each_case_and_what_is_aimed_at(found):
    lines = burst_report.lines([found, found])
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    cells = {row[0]: row[1:] for row in table}
    assert cells["refused: all complete (problem, `Retry-After` its ceiling)"][0] == "100 of 100"
    assert cells["`retry_after_ms` over the wait: p5, p50, p95"][0] == "1.25, 1.25, 1.25"
    assert cells["other answers, lost connections"][0] == "2 no connection left"
    assert cells["admitted, then 504"][0] == "0.00% of 100"


def test_goodput_is_also_given_of_the_cores_that_the_generator_left(found, monkeypatch):
    monkeypatch.setattr(burst_report, "CORES", 2)
    assert burst_report.goodput(found) == "0.900 (0.947)"


def test_memory_is_compared_from_second_10_on(found):
    assert burst_report.memory(found) == "too short a burst"
    long = found._replace(times=Times(10.0, 39.0))
    assert burst_report.memory(long) == "500, +0.0, 0.0 (0.0 to 0.0)"


def test_the_picture_is_drawn(found, tmp_path):
    draw([found, found], tmp_path / "overload.png")
    assert (tmp_path / "overload.png").stat().st_size > 10_000
