import csv
import sys

from PIL import Image

from models.training.fitting.history import CURVES, METRICS, Row, draw_curves, write_metrics

ROWS = [Row(epoch, 1 / epoch, 1e-3, 1 - 0.5 / epoch, 0.6, 100.0) for epoch in (1, 2, 3)]


def read(folder):
    with (folder / METRICS).open() as file:
        return list(csv.DictReader(file))


def test_metrics_are_a_table_with_a_row_per_epoch(tmp_path):
    write_metrics(ROWS[:1], "classify", tmp_path)
    write_metrics(ROWS, "classify", tmp_path)
    rows = read(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert rows[1] == {
        "epoch": "2", "loss": "0.5", "learning_rate": "0.001", "accuracy": "0.75",
        "images_per_s": "100.0",
    }  # fmt: skip


def test_the_metrics_of_a_segmenter_are_of_pixels(tmp_path):
    write_metrics(ROWS, "segment", tmp_path)
    row = read(tmp_path)[1]
    assert (row["mean_iou"], row["pixel_accuracy"]) == ("0.6", "0.75")
    assert "accuracy" not in row


def test_curves_are_an_image(tmp_path):
    assert draw_curves(ROWS, "classify", "mine", tmp_path)
    with Image.open(tmp_path / CURVES) as image:
        assert image.width > 2 * image.height


def test_without_matplotlib_no_curves_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_curves(ROWS, "segment", "mine", tmp_path)
    assert list(tmp_path.iterdir()) == []
