import pytest

from bench.serving.histograms import Inside, inside, totals
from bench.serving.plot import draw
from bench.serving.report import Found, explained, table
from bench.serving.summary import Limit, Load, Round, Turn

LIMIT = Limit(rate=500.0, cpu_ms=2.5, alone_ms=3.0)
CROWD, OPEN = Load(concurrency=32), Load(part=0.5)
TEXT = """\
# TYPE patchserve_batch_size histogram
patchserve_batch_size_bucket{{le="+Inf",model="m"}} {count}
patchserve_batch_size_sum{{model="m"}} {images}
patchserve_batch_size_count{{model="m"}} {count}
# TYPE patchserve_stage_duration_seconds histogram
patchserve_stage_duration_seconds_bucket{{le="+Inf",model="m",stage="decode"}} {images}
patchserve_stage_duration_seconds_sum{{model="m",stage="decode"}} {seconds}
patchserve_stage_duration_seconds_count{{model="m",stage="decode"}} {images}
patchserve_stage_duration_seconds_sum{{model="m",stage="encode"}} 0
patchserve_stage_duration_seconds_count{{model="m",stage="encode"}} 0
"""


def turn(errors=0, inside=None):
    return Turn(400.0, 4.0, 6.0, 9.0, errors, 3.0, 0.2, 0.01, inside)


@pytest.fixture
def found():
    turns = {
        ("mosec", CROWD): turn(errors=2),
        ("patchserve", OPEN): turn(),
        ("patchserve", CROWD): turn(inside=Inside(4.0, {"decode": 2.5})),
        ("mosec", OPEN): turn(),
    }
    memory = {"patchserve": 512.4, "mosec": 700.0}
    return Found("T", 3.0, ("2 processes", "1 process"), [Round(LIMIT, turns)] * 3, memory)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_servers_stand_in_their_order_with_errors_summed_over_rounds(found):
    rows = [cells(line) for line in table(found) if line.startswith(("| patch", "| mosec"))]
    assert [row[:2] for row in rows] == [
        ["patchserve", "closed, 32"],
        ["patchserve", "open, 50%"],
        ["mosec", "closed, 32"],
        ["mosec", "open, 50%"],
    ]
    assert rows[0][2] == "400.0"
    assert [row[-2:] for row in rows] == [["0", "512"], ["0", "512"], ["6", "700"], ["0", "700"]]


def test_every_line_of_a_table_has_as_many_cells_as_its_heading(found):
    lines = [line for line in table(found) if line.startswith("| ")]
    ours = [line for line in lines if "/metrics" in line or line.startswith("| closed")]
    assert len({len(cells(line)) for line in lines if line not in ours}) == 1
    assert len({len(cells(line)) for line in ours}) == 1


def test_the_service_s_own_histograms_explain_its_lines(found):
    assert cells(explained(found)[-1]) == ["closed, 32", "4.00", "2.50"]


def test_who_says_nothing_of_itself_explains_nothing(found):
    silent = [Round(LIMIT, {("mosec", CROWD): turn()})]
    assert explained(found._replace(rounds=silent)) == []


def test_histograms_are_read_between_two_moments():
    before = totals(TEXT.format(count=10, images=20, seconds=1.0))
    after = totals(TEXT.format(count=20, images=60, seconds=1.2))
    found = inside(before, after)
    assert found.batch == 4
    assert found.stages_ms == {"decode": pytest.approx(5.0)}


def test_the_picture_is_drawn(found, tmp_path):
    draw([found, found], tmp_path / "serve.png")
    assert (tmp_path / "serve.png").stat().st_size > 10_000
