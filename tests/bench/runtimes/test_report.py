import pytest

from bench.runtimes.race import Figures
from bench.runtimes.report import REFERENCE, Standing, Yardstick, draw, ratio, table

SLOW, QUICK = Figures((0.4, 0.4, 0.5)), Figures((0.1, 0.1, 0.2), difference=2e-6)
FAILED = Figures((), error="ModuleNotFoundError: no such runtime")
STANDING = Standing(
    "ViT-B/16",
    2,
    installed={"transformers": SLOW, "ours": QUICK, "theirs": FAILED},
    tuned={"transformers": QUICK, "ours": QUICK, REFERENCE: SLOW, "ours, until fold": QUICK},
)
NAMES = ("transformers", "ours", "theirs", "ours, until fold")
YARDSTICK = Yardstick(
    flops=10**9,
    executed={name: 5 * 10**8 if name.startswith("ours") else 10**9 for name in NAMES},
    peaks=dict.fromkeys(NAMES, 1e11),
)


def cells(name):
    (line,) = (line for line in table([STANDING], YARDSTICK) if line.startswith(f"| 2 | {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_ratios_are_of_the_medians_of_one_race():
    assert ratio(STANDING.installed, "ours") == "4.00"
    assert ratio(STANDING.tuned, "ours") == "1.00"
    assert ratio(STANDING.tuned, "ours", REFERENCE) == "4.00"
    assert ratio(STANDING.tuned, "absent") == ""


def test_a_line_tells_speed_ratios_and_shares_of_the_peak():
    (_, _, rate, ms, *ratios, share, executed, difference) = cells("ours")
    assert rate == "20.0"
    assert ms == "100.0 (100.0 to 200.0; 100.0)"
    assert ratios == ["4.00", rate, ms, "1.00", "4.00"]
    assert (share, executed, difference) == ("20%", "10%", "2e-06")


def test_who_failed_is_listed_with_the_reason():
    assert "no such runtime" in cells("theirs")[3]


def test_who_ran_in_one_race_only_has_a_line_all_the_same():
    assert cells("ours, until fold")[2:5] == ["", "", ""]


def test_the_reference_of_the_other_settings_has_no_line_of_its_own():
    assert not any(REFERENCE in line for line in table([STANDING], YARDSTICK))


@pytest.mark.parametrize("count", [1, 3])
def test_the_picture_is_drawn(count, tmp_path):
    draw([STANDING] * count, tmp_path / "models.png")
    assert (tmp_path / "models.png").read_bytes().startswith(b"\x89PNG")
