"""bench.edge: its options, and its table without and with another version."""

from pathlib import Path

import pytest

from bench import edge

ROOT = Path(__file__).parents[2]
ROUNDS = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


@pytest.mark.parametrize("arguments", [[str(ROOT)], ["--against", str(ROOT)]])
def test_another_checkout_is_given_by_position_or_by_name(arguments):
    given = edge.parsed([*arguments, "--rounds", "3"])
    assert (given.against, given.rounds) == (ROOT, 3)


def test_there_is_no_other_checkout_by_default():
    assert edge.parsed([]).against is None


def test_a_folder_without_the_program_is_no_checkout(tmp_path, capsys):
    with pytest.raises(SystemExit):
        edge.parsed([str(tmp_path)])
    assert "no checkout" in capsys.readouterr().err


def test_a_table_has_medians_and_the_ratio_to_the_bare_app():
    lines = edge.table({"raw": {"bare": ROUNDS, "ours": [10 * one for one in ROUNDS]}})
    assert lines[-1] == "| raw | 4 us | 40 us | 10.0 |"


def test_a_comparison_has_the_paired_ratio_with_its_interval():
    results = {"raw": {"bare": ROUNDS, "ours": ROUNDS, "other": [2 * one for one in ROUNDS]}}
    lines = edge.table(results)
    assert lines[-1] == "| raw | 4 us | 4 us | 8 us | 1.0 | 0.500 (0.500 to 0.500) |"
    assert len({line.count("|") for line in lines}) == 1
    assert "of 7 interleaved rounds" in edge.page(results)
    assert "`other`" in edge.page(results)


def test_the_order_of_the_services_is_reversed_in_every_second_round(monkeypatch):
    measured = []

    def microseconds(service, load, folder):
        measured.append(service)
        return float(len(measured))

    monkeypatch.setattr(edge, "microseconds", microseconds)
    results = edge.measure({"bare": "b", "ours": "o"}, 2)
    assert measured == ["b", "o"] * 4 + ["o", "b"] * 4
    assert all(len(taken) == 2 for row in results.values() for taken in row.values())
