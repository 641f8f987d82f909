import numpy as np
import pytest

from models import checkpoint
from models.training.bundled.curriculum import Curriculum
from models.training.bundled.train import train
from models.training.scenes.scene import UNSEEN_SEED

TINY = Curriculum(scenes=24, steps=4, batch_size=8, learning_rate=1e-3, alone=0.25)


@pytest.mark.parametrize(
    ("task", "folder"), [("classify", "shapes-vit"), ("segment", "shapes-segformer")]
)
def test_a_run_writes_a_folder_that_loads(tmp_path, task, folder):
    heard = []
    target = train(task, tmp_path, seed=3, curriculum=TINY, measured=6, watch=heard.append)
    assert target == tmp_path / folder
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    loaded = checkpoint.load(target)
    assert loaded.task == task
    assert "circle" in loaded.labels
    assert [progress.done for progress in heard if progress.doing == "training"] == [1, 2, 3, 4]
    assert all(np.isfinite(progress.loss) for progress in heard if progress.doing == "training")


def test_card_tells_curriculum_seed_and_quality(tmp_path):
    card = (
        train("classify", tmp_path, seed=3, curriculum=TINY, measured=6) / "README.md"
    ).read_text()
    assert "patchserve train --seed 3" in card
    assert "24 scenes" in card
    assert "**accuracy" in card
    assert "license: apache-2.0" in card
    assert "{" not in card


def test_what_is_there_is_replaced_only_when_asked(tmp_path):
    target = tmp_path / "shapes-vit"
    target.mkdir()
    (target / "mine").touch()
    with pytest.raises(FileExistsError, match="shapes-vit is there already"):
        train("classify", tmp_path, curriculum=TINY, measured=2)
    train("classify", tmp_path, curriculum=TINY, measured=2, overwrite=True)
    assert not (target / "mine").exists()
    assert checkpoint.load(target).name == "shapes-vit"


@pytest.mark.parametrize("doing", ["drawing", "training", "measuring"])
def test_interrupted_run_leaves_nothing(tmp_path, doing):
    def interrupt(progress):
        if progress.doing == doing:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("classify", tmp_path, curriculum=TINY, measured=2, watch=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_run_interrupted_while_it_saves_leaves_what_was_there(tmp_path, monkeypatch):
    train("classify", tmp_path, seed=3, curriculum=TINY, measured=2)
    before = (tmp_path / "shapes-vit/model.safetensors").read_bytes()

    def half(saved, folder):
        (folder / "config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr("models.training.bundled.train.save", half)
    with pytest.raises(KeyboardInterrupt):
        train("classify", tmp_path, seed=4, curriculum=TINY, measured=2, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes-vit"]
    assert (tmp_path / "shapes-vit/model.safetensors").read_bytes() == before


def test_seed_of_the_unseen_scenes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="kept for measuring"):
        train("classify", tmp_path, seed=UNSEEN_SEED, curriculum=TINY)
