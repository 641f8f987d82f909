import io
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from models import checkpoint
from models.checkpoint import bundled
from models.training import evaluate

BOTH = bundled("classify"), bundled("segment")


def test_quality_is_printed_and_images_are_written(tmp_path):
    console = Console(file=io.StringIO(), width=140)
    quality = evaluate(*BOTH, seed=9, count=20, out=tmp_path / "images", console=console)
    shown = console.file.getvalue()
    assert "20 scenes of seed 9" in shown
    assert f"accuracy {quality.accuracy:.4f}" in shown
    assert f"mean IoU {quality.mean_iou:.4f}" in shown
    assert f"pixel accuracy {quality.pixels.accuracy:.4f}" in shown
    assert quality.scenes.total == 20
    for name in ("confusion.png", "scenes.png"):
        with Image.open(tmp_path / "images" / name) as image:
            image.load()


def test_a_checkpoint_of_the_other_task_is_refused():
    with pytest.raises(ValueError, match="is for the task segment, not classify"):
        evaluate(BOTH[1], BOTH[0], count=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("labels", "has the labels a, b, c, d, e and 1 more, not those"),
        ("crop", "without a crop"),
    ],
)
def test_a_checkpoint_with_other_labels_or_a_crop_is_refused(tmp_path, change, message):
    loaded = checkpoint.load(BOTH[0])
    if change == "labels":
        loaded = replace(loaded, labels=tuple("abcdef"))
    else:
        cropping = replace(loaded.preprocessing, size=(64, 64), crop_size=(48, 48))
        loaded = replace(loaded, preprocessing=cropping)
    checkpoint.save(loaded, tmp_path)
    with pytest.raises(ValueError, match=message):
        evaluate(tmp_path, BOTH[1], count=1)
