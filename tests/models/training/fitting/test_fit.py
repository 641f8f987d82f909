import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from models import checkpoint
from models.training.fitting.fit import NO_CURVES, fit, resume
from models.training.fitting.plan import Plan
from models.training.fitting.progress import Watcher
from models.training.fitting.trainer import Interrupted

TINY = {"num_layers": "1", "hidden_size": "24", "num_heads": "3", "mlp_size": "24"}
FILES = {
    "README.md",
    "config.json",
    "curves.png",
    "metrics.csv",
    "model.safetensors",
    "preprocessor_config.json",
}

MODULE = sys.modules["models.training.fitting.fit"]  # the package has a function of that name


class Listener(Watcher):
    """Keeps what is said, and says stop after so many steps, or while the n-th time measuring."""

    def __init__(self, steps: int = 10**9, measurings: int = 10**9) -> None:
        self.steps, self.measurings = steps, measurings
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def stepped(self, step) -> None:
        self.steps -= 1

    def measuring(self, done: int, total: int) -> None:
        self.measurings -= 1

    def stop(self) -> bool:
        return self.steps <= 0 or self.measurings <= 0


@pytest.fixture
def plan(labelled_folder, tmp_path) -> Plan:
    data = labelled_folder(tmp_path / "data", 6)  # 15 to learn from, 3 to measure on
    options = TINY | {"dropout": "0.1"}
    return Plan(str(data), model="vit-ti/8", options=options, image_size=16, epochs=3, batch_size=4)


@pytest.fixture
def pets_plan(pets_folder, tmp_path) -> Plan:
    data = pets_folder(tmp_path / "pets", train=6, test=2)
    return Plan(str(data), preset="article", options=TINY, image_size=32, epochs=2, batch_size=3)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_run_fills_a_folder_that_loads(plan, tmp_path):
    out = fit(plan, tmp_path / "runs" / "mine", device="cpu")
    assert {path.name for path in out.iterdir()} == FILES
    loaded = checkpoint.load(out)
    assert loaded.labels == ("cross", "disc", "stripes")
    assert loaded.preprocessing.size == (16, 16)
    assert len((out / "metrics.csv").read_text().splitlines()) == 4
    assert "patchserve train --data data" in (out / "README.md").read_text()
    assert [path.name for path in out.parent.iterdir()] == ["mine"]


def test_the_same_plan_gives_the_same_weights_and_another_seed_others(plan, tmp_path):
    one, same, other = tmp_path / "one", tmp_path / "same", tmp_path / "other"
    fit(plan, one)
    fit(plan, same)
    fit(replace(plan, seed=2), other)
    assert weights(one) == weights(same)
    assert weights(one) != weights(other)


@pytest.mark.parametrize(
    "listener",
    [
        Listener(steps=1),
        Listener(steps=6),
        Listener(steps=8),
        Listener(measurings=2),
        Listener(measurings=3),
    ],
    ids=["first step", "within an epoch", "last of an epoch", "measuring", "measuring at the end"],
)
def test_interrupted_and_resumed_is_the_same_as_never_interrupted(plan, tmp_path, listener):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(plan, whole)
    with pytest.raises(Interrupted):
        fit(plan, broken, stop=listener.stop, watcher=listener)
    assert {path.name for path in broken.iterdir()} <= {"state.pt", "metrics.csv"}
    torch.manual_seed(99)
    resume(broken)
    assert weights(broken) == weights(whole)
    assert {path.name for path in broken.iterdir()} == FILES


def test_a_run_that_died_goes_on_from_its_last_epoch(plan, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(plan, whole)

    def fail(*words):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(MODULE, "save", fail)
        with pytest.raises(OSError, match="the disk is full"):
            fit(plan, broken)
    resume(broken)
    assert weights(broken) == weights(whole)


def test_pets_are_learnt_by_the_articles_recipe(pets_plan, tmp_path):
    out = fit(pets_plan, tmp_path / "out")
    assert {path.name for path in out.iterdir()} == FILES | {"progress.png"}
    loaded = checkpoint.load(out)
    assert loaded.labels == ("pet", "background", "border")
    assert (loaded.preprocessing.resample, loaded.preprocessing.mean) == (0, None)
    assert json.loads((out / "config.json").read_text())["model_type"] == "patchserve_vit_segmenter"
    with Image.open(out / "progress.png") as picture:
        assert picture.width > picture.height


def test_an_interrupted_segmenter_keeps_its_snapshots(pets_plan, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(pets_plan, whole)
    listener = Listener(steps=3)
    with pytest.raises(Interrupted):
        fit(pets_plan, broken, stop=listener.stop, watcher=listener)
    resume(broken)
    assert (broken / "progress.png").read_bytes() == (whole / "progress.png").read_bytes()


def test_a_checkpoint_gets_a_new_head(plan, tmp_path):
    first = fit(replace(plan, epochs=1), tmp_path / "first")
    again = Plan(plan.data, source=str(first), epochs=1, image_size=24)
    out = fit(again, tmp_path / "second")
    assert checkpoint.load(out).preprocessing.size == (24, 24)
    assert "first, trained further" in (out / "README.md").read_text()


def test_a_distilled_run_goes_on_with_its_teacher(plan, tmp_path):
    teacher = fit(replace(plan, epochs=1), tmp_path / "teacher")
    student = replace(plan, model="deit-ti/8", teacher=str(teacher), epochs=2)
    whole, broken, listener = tmp_path / "whole", tmp_path / "broken", Listener(steps=3)
    fit(student, whole)
    with pytest.raises(Interrupted):
        fit(student, broken, stop=listener.stop, watcher=listener)
    resume(broken)
    assert weights(broken) == weights(whole)
    fit(replace(student, teacher=None), tmp_path / "alone")
    assert weights(tmp_path / "alone") != weights(whole)
    assert "--teacher teacher" in (whole / "README.md").read_text()


def test_what_is_there_is_replaced_only_when_asked(plan, tmp_path):
    out = fit(replace(plan, epochs=1), tmp_path / "out")
    before = weights(out)
    with pytest.raises(FileExistsError, match="--overwrite replaces it"):
        fit(plan, out)
    listener = Listener(steps=1)
    with pytest.raises(Interrupted):
        fit(plan, out, overwrite=True, stop=listener.stop, watcher=listener)
    assert weights(out) == before
    with pytest.raises(FileExistsError, match="--resume goes on"):
        fit(plan, out)
    resume(out)
    assert weights(out) != before


def test_a_folder_of_other_things_is_never_replaced(plan, tmp_path):
    with pytest.raises(FileExistsError, match="no run's"):
        fit(plan, tmp_path / "data", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is a file"):
        fit(plan, tmp_path / "file", overwrite=True)
    (tmp_path / "empty").mkdir()
    fit(replace(plan, epochs=1), tmp_path / "empty")


def test_a_run_cannot_go_on_otherwise_than_it_began(plan, tmp_path, labelled_folder):
    out, listener = tmp_path / "out", Listener(steps=2)
    with pytest.raises(ValueError, match="no interrupted run"):
        resume(out)
    with pytest.raises(Interrupted):
        fit(plan, out, stop=listener.stop, watcher=listener)
    with pytest.raises(ValueError, match="epochs 3, not 5"):
        resume(out, said={"epochs": 5})
    (tmp_path / "data/disc/000.png").unlink()
    with pytest.raises(ValueError, match="has changed"):
        resume(out, said={"epochs": 3})


def test_an_interruption_before_the_first_step_leaves_nothing(plan, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(plan, tmp_path / "out", stop=lambda: True)
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_all_but_the_curves_is_there(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "draw_curves", lambda *words: False)
    listener = Listener()
    out = fit(replace(plan, epochs=1), tmp_path / "out", watcher=listener)
    assert {path.name for path in out.iterdir()} == FILES - {"curves.png"}
    assert NO_CURVES in listener.said


@pytest.mark.parametrize("device", ["cuda:63", "abacus"])
def test_a_device_that_is_not_there_is_told(plan, tmp_path, device):
    with pytest.raises(ValueError, match=device):
        fit(plan, tmp_path / "out", device=device)
