import pytest

from bench.runtimes.race import Figures
from bench.runtimes.report import (
    BASE_INSTALLED,
    Comparison,
    Reference,
    draw,
    main_ratios,
    ratio,
    table,
)

SLOW, QUICK = Figures((0.4, 0.4, 0.5)), Figures((0.1, 0.1, 0.2), difference=2e-6)
FAILED = Figures((), error="ModuleNotFoundError: no such runtime")
COMPARISON = Comparison(
    "ViT-B/16",
    2,
    installed={"transformers": SLOW, "ours": QUICK, "theirs": FAILED},
    tuned={"transformers": QUICK, "ours": QUICK, BASE_INSTALLED: SLOW, "ours, until fold": QUICK},
)
NAMES = ("transformers", "ours", "theirs", "ours, until fold")
REFERENCE = Reference(
    flops=10**9,
    executed={name: 5 * 10**8 if name.startswith("ours") else 10**9 for name in NAMES},
    peaks=dict.fromkeys(NAMES, 1e11),
)


def cells(name):
    (line,) = (
        line for line in table([COMPARISON], REFERENCE) if line.startswith(f"| 2 | {name} |")
    )
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_ratios_are_of_the_medians_of_one_race():
    assert ratio(COMPARISON.installed, "ours") == "4.00"
    assert ratio(COMPARISON.tuned, "ours") == "1.00"
    assert ratio(COMPARISON.tuned, "ours", BASE_INSTALLED) == "4.00"
    assert ratio(COMPARISON.tuned, "absent") == ""


def test_a_line_has_rates_ratios_and_fractions_of_the_peak():
    (_, _, rate, ms, *ratios, published, executed, difference) = cells("ours")
    assert rate == "20.0"
    assert ms == "100.0 (100.0 to 200.0; 100.0)"
    assert ratios == ["4.00", rate, ms, "1.00", "4.00"]
    assert (published, executed, difference) == ("20%", "10%", "2e-06")


def test_a_contender_that_failed_has_its_error_in_the_table():
    assert "no such runtime" in cells("theirs")[3]


def test_a_contender_of_one_race_only_has_a_line():
    assert cells("ours, until fold")[2:5] == ["", "", ""]


def test_transformers_as_installed_in_the_tuned_race_has_no_line():
    assert not any(BASE_INSTALLED in line for line in table([COMPARISON], REFERENCE))


def test_the_plot_has_the_main_contenders_as_installed():
    steps = {"ours, until fold": QUICK, "ours, plain": QUICK, "ours, as served": QUICK}
    more = COMPARISON._replace(installed={**COMPARISON.installed, **steps})
    assert main_ratios(more) == {"transformers": 1.0, "ours": 4.0}


@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_plot_is_drawn(count, tmp_path):
    draw(
        [COMPARISON._replace(network=f"ViT {number}") for number in range(count)],
        tmp_path / "models.png",
    )
    assert (tmp_path / "models.png").read_bytes().startswith(b"\x89PNG")
