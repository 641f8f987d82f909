from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import checkpoint
from models.registry import Task
from models.training.bundled.recipe import RECIPES, train
from models.training.data.curriculum import Curriculum
from models.training.fitting.progress import Watcher
from models.training.fitting.recipe import Recipe
from models.training.scenes.scene import UNSEEN_SEED

FOLDERS = {"classify": "shapes-vit", "segment": "shapes-segformer"}
FILES = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]


def tiny(task: Task, steps: int = 1) -> Recipe:
    curriculum = Curriculum(scenes=24, steps=steps, single_steps=0.2)
    return replace(RECIPES[task], batch_size=4, learning_rate=2e-3, curriculum=curriculum)


class Recorder(Watcher):
    """Records the phases and losses of a run; interrupts the run in a phase."""

    def __init__(self, interrupt: str = "") -> None:
        self.interrupt = interrupt
        self.phases: list[str] = []
        self.losses: list[float] = []

    def checking(self, done: int, total: int) -> None:
        self.enter("drawing")

    def stepped(self, step) -> None:
        self.losses.append(step.latest)
        self.enter("training")

    def measuring(self, done: int, total: int) -> None:
        self.enter("measuring")

    def enter(self, phase: str) -> None:
        self.phases.append(phase)
        if phase == self.interrupt:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", params=["classify", "segment"])
def run(request, tmp_path_factory) -> tuple[Task, Path, Recorder]:
    """Train a network for a few steps."""
    task, out, recorder = request.param, tmp_path_factory.mktemp("run"), Recorder()
    recipe = tiny(task, steps=24)
    train(task, out, seed=3, recipe=recipe, measured=6, watcher=recorder)
    return task, out, recorder


def test_a_run_writes_a_folder_that_loads(run):
    task, out, _ = run
    assert [path.name for path in out.iterdir()] == [FOLDERS[task]]
    assert sorted(path.name for path in (out / FOLDERS[task]).iterdir()) == FILES
    loaded = checkpoint.load(out / FOLDERS[task])
    assert loaded.task == task
    assert "circle" in loaded.labels


def test_a_run_reports_its_phases_and_lowers_the_loss(run):
    _, _, recorder = run
    assert list(dict.fromkeys(recorder.phases)) == ["drawing", "training", "measuring"]
    losses = recorder.losses
    assert len(losses) == 24
    assert np.isfinite(losses).all()
    assert sum(losses[-4:]) / 4 < losses[0] - 0.2


def test_the_model_card_reports_curriculum_seed_and_quality(run):
    task, out, _ = run
    card = (out / FOLDERS[task] / "README.md").read_text()
    quality = "**accuracy" if task == "classify" else "**mean IoU"
    for text in ("patchserve train --seed 3", "24 generated scenes", "24 steps", quality):
        assert text in card
    assert "license: apache-2.0" in card
    assert "{" not in card


def test_the_same_seed_trains_the_same_network(tmp_path):
    weights = []
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        folder = train("classify", tmp_path / name, seed=seed, recipe=tiny("classify"), measured=2)
        weights.append((folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_an_existing_checkpoint_is_replaced_only_on_request(tmp_path):
    target = tmp_path / "shapes-vit"
    target.mkdir()
    (target / "mine").touch()
    with pytest.raises(FileExistsError, match="shapes-vit exists already"):
        train("classify", tmp_path, recipe=tiny("classify"), measured=2)
    train("classify", tmp_path, recipe=tiny("classify"), measured=2, overwrite=True)
    assert (target / "mine").exists()
    assert checkpoint.load(target).name == "shapes-vit"


@pytest.mark.parametrize("phase", ["drawing", "training", "measuring"])
def test_an_interrupted_run_leaves_nothing(tmp_path, phase):
    with pytest.raises(KeyboardInterrupt):
        train("classify", tmp_path, recipe=tiny("classify"), measured=2, watcher=Recorder(phase))
    assert list(tmp_path.iterdir()) == []


def test_a_run_interrupted_while_it_saves_keeps_the_old_folder(tmp_path, monkeypatch):
    (tmp_path / "shapes-vit").mkdir()
    (tmp_path / "shapes-vit" / "old").touch()

    def half(saved, folder):
        (folder / "config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr("models.training.bundled.recipe.save", half)
    with pytest.raises(KeyboardInterrupt):
        train("classify", tmp_path, recipe=tiny("classify"), measured=2, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["shapes-vit", "old"]


def test_the_seed_of_the_unseen_scenes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="kept for measuring"):
        train("classify", tmp_path, seed=UNSEEN_SEED)
