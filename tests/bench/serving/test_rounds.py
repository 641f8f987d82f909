from base64 import b64encode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from bench import serve
from bench.common.cpu import UsageDelta
from bench.serving import baseline, photographs
from bench.serving.baseline import BareLoop, LoopConfig, LoopRun
from bench.serving.rounds import count_wrong, is_right
from bench.serving.summary import Load

QUIET = UsageDelta(1.0, {}, 0.0)


def png(mask):
    file = BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        b'{"predictions": [{"label": "label 7", "index": 7}]}',
        b'[{"label":"label 7"},{"label":"8"}]',
    ],
)
def test_the_first_label_of_a_response_counts(body):
    assert is_right(body, np.int64(7))
    assert not is_right(body, np.int64(8))


def test_a_response_without_a_label_is_wrong():
    assert not is_right(b"{}", np.int64(7))


def test_a_mask_may_differ_in_one_pixel_of_a_thousand():
    mask = np.zeros((100, 100), np.uint8)
    near, far = mask.copy(), mask.copy()
    near[0, :10] = 1
    far[0, :11] = 1
    assert is_right(png(near), mask)
    assert not is_right(png(far), mask)
    assert not is_right(png(mask[:50]), mask)


def test_wrong_responses_are_counted():
    bodies = {"0": b64encode(b"label 5").decode(), "2": b64encode(b"label 5").decode()}
    assert count_wrong(bodies, np.array([5, 5, 6])) == 1


def test_the_loop_has_configurations_for_throughput_and_for_a_single_image(monkeypatch):
    cores = baseline.CORES
    runs = {
        LoopConfig(1, 1, 1): LoopRun(300.0, 3.0, 3.3),
        LoopConfig(1, cores, 1): LoopRun(310.0, 6.0, 3.1),
        LoopConfig(cores, 1, 4): LoopRun(700.0, 2.8, 11.0),
    }
    slow = LoopRun(100.0, 9.0, 9.0)
    monkeypatch.setattr(BareLoop, "run", lambda self, config, s: (runs.get(config, slow), QUIET))
    monkeypatch.setattr("bench.common.idle.machine_use", lambda: QUIET)
    fastest, single = BareLoop([]).best()
    assert fastest == LoopConfig(cores, 1, 4)
    assert single == LoopConfig(1, cores, 1)


def test_photographs_are_reproducible_and_have_the_size_of_photographs(tmp_path):
    files = photographs.write(tmp_path)
    assert len({file.read_bytes() for file in files}) == photographs.COUNT
    for file in files:
        with Image.open(file) as photo:
            assert photo.size == (640, 480)
        assert 50_000 <= file.stat().st_size <= 100_000
    again = np.asarray(photographs.draw(0))
    assert (again == np.asarray(photographs.draw(0))).all()


def test_one_server_can_be_measured_alone(tmp_path):
    alone = ["--networks", "T", "--servers", "patchserve", "--concurrency", "32", "--open"]
    options = serve.parsed([*alone, "--rounds", "7", "--out", str(tmp_path)])
    assert options.networks == ["T"]
    assert options.servers == ["patchserve"]
    assert options.loads == [Load(concurrency=32)]
    assert options.rounds == 7


@pytest.mark.slow
def test_a_whole_run_writes_a_table_and_a_plot(tmp_path, capsys):
    alone = ["--networks", "T", "--servers", "patchserve", "--concurrency", "1", "8"]
    serve.main([*alone, "--rounds", "1", "--seconds", "1", "--out", str(tmp_path)])
    table = (tmp_path / "serve.md").read_text()
    assert table in capsys.readouterr().out
    for load in ("closed, 1", "closed, 8", "open, 50%"):
        (line,) = (
            line for line in table.splitlines() if line.startswith(f"| patchserve | {load} ")
        )
        assert line.split("|")[-3].strip() == "0"  # errors
    assert (tmp_path / "serve.png").is_file()
