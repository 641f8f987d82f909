import pytest

from bench.serving.histograms import ServerFigures, means_between, totals
from bench.serving.plot import draw
from bench.serving.report import NetworkResult, stage_lines, table
from bench.serving.summary import Load, LoopFigures, Measurement, Round

LOOP = LoopFigures(rate=500.0, cpu_ms=2.5, single_ms=3.0)
MANY, OPEN = Load(concurrency=32), Load(fraction=0.5)
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


def measurement(errors=0, server=None):
    return Measurement(400.0, 4.0, 6.0, 9.0, errors, 3.0, 0.2, 0.01, server)


@pytest.fixture
def result():
    measurements = {
        ("mosec", MANY): measurement(errors=2),
        ("patchserve", OPEN): measurement(),
        ("patchserve", MANY): measurement(server=ServerFigures(4.0, {"decode": 2.5})),
        ("mosec", OPEN): measurement(),
    }
    memory = {"patchserve": 512.4, "mosec": 700.0}
    return NetworkResult(
        "T", 3.0, ("2 processes", "1 process"), [Round(LOOP, measurements)] * 3, memory
    )


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_servers_keep_their_order_and_errors_are_summed_over_rounds(result):
    rows = [cells(line) for line in table(result) if line.startswith(("| patch", "| mosec"))]
    assert [row[:2] for row in rows] == [
        ["patchserve", "closed, 32"],
        ["patchserve", "open, 50%"],
        ["mosec", "closed, 32"],
        ["mosec", "open, 50%"],
    ]
    assert rows[0][2] == "400.0"
    assert [row[-2:] for row in rows] == [["0", "512"], ["0", "512"], ["6", "700"], ["0", "700"]]


def test_every_line_of_a_table_has_as_many_cells_as_its_head(result):
    lines = [line for line in table(result) if line.startswith("| ")]
    ours = [line for line in lines if "/metrics" in line or line.startswith("| closed")]
    assert len({len(cells(line)) for line in lines if line not in ours}) == 1
    assert len({len(cells(line)) for line in ours}) == 1


def test_the_service_s_own_histograms_have_a_table(result):
    assert cells(stage_lines(result)[-1]) == ["closed, 32", "4.00", "2.50"]


def test_without_histograms_there_is_no_table_of_stages(result):
    without = [Round(LOOP, {("mosec", MANY): measurement()})]
    assert stage_lines(result._replace(rounds=without)) == []


def test_means_are_of_the_time_between_two_readings():
    before = totals(TEXT.format(count=10, images=20, seconds=1.0))
    after = totals(TEXT.format(count=20, images=60, seconds=1.2))
    result = means_between(before, after)
    assert result.batch == 4
    assert result.stages_ms == {"decode": pytest.approx(5.0)}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_plot_is_drawn(count, result, tmp_path):
    draw([result] * count, tmp_path / "serve.png")
    assert (tmp_path / "serve.png").stat().st_size > 10_000
