import csv
import sys

from PIL import Image

from models.training.fitting.history import CURVES, METRICS, Row, draw_curves, write_metrics

ROWS = [Row(epoch, 1 / epoch, 1e-3, 1 - 0.5 / epoch, 0.6, 100.0) for epoch in (1, 2, 3)]


def test_metrics_are_a_table_with_a_row_per_epoch(tmp_path):
    write_metrics(ROWS[:1], tmp_path)
    write_metrics(ROWS, tmp_path)
    with (tmp_path / METRICS).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[1]["accuracy"]) == 0.75


def test_curves_are_an_image(tmp_path):
    assert draw_curves(ROWS, "accuracy", "mine", tmp_path)
    with Image.open(tmp_path / CURVES) as image:
        assert image.width > 2 * image.height


def test_without_matplotlib_no_curves_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_curves(ROWS, "accuracy", "mine", tmp_path)
    assert list(tmp_path.iterdir()) == []
