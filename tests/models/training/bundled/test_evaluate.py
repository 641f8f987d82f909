import io

import pytest
from PIL import Image
from rich.console import Console

from models.training import evaluate, train
from models.training.bundled.curriculum import Curriculum

TINY = Curriculum(scenes=24, steps=2, batch_size=8, learning_rate=1e-3, alone=0.25)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    return [train(task, out, curriculum=TINY, measured=2) for task in ("classify", "segment")]


def test_quality_is_printed_and_pictures_are_written(folders, tmp_path):
    console = Console(file=io.StringIO(), width=140)
    quality = evaluate(*folders, seed=9, count=20, out=tmp_path / "pictures", console=console)
    shown = console.file.getvalue()
    assert "20 scenes of seed 9" in shown
    assert f"accuracy {quality.accuracy:.4f}" in shown
    assert f"mean IoU {quality.mean_iou:.4f}" in shown
    assert quality.scenes.total == 20
    for name in ("confusion.png", "scenes.png"):
        with Image.open(tmp_path / "pictures" / name) as image:
            image.load()


def test_checkpoint_of_the_other_task_is_refused(folders):
    with pytest.raises(ValueError, match="is for the task segment, not classify"):
        evaluate(folders[1], folders[0], count=1)
