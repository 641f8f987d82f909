import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from models import checkpoint
from models.training.fitting import fit as fit_module
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
    "training.json",
}


class Interrupter(Watcher):
    """Records messages; requests a stop after some steps or reports of the measurement."""

    def __init__(self, steps: int = 10**9, measurings: int = 10**9) -> None:
        self.steps, self.measurings = steps, measurings
        self.messages: list[str] = []

    def say(self, text: str) -> None:
        self.messages.append(text)

    def stepped(self, step) -> None:
        self.steps -= 1

    def measuring(self, done: int, total: int) -> None:
        self.measurings -= 1

    def stop(self) -> bool:
        return self.steps <= 0 or self.measurings <= 0


def interrupted(plan: Plan, out: Path, **options) -> None:
    """Start a run that stops after a few steps or reports of the measurement."""
    interrupter = Interrupter(**options)
    with pytest.raises(Interrupted):
        fit(plan, out, overwrite=out.exists(), stop=interrupter.stop, watcher=interrupter)


def rows(folder: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """Some columns of metrics.csv."""
    with (folder / "metrics.csv").open() as file:
        return [[row[name] for name in columns] for row in csv.DictReader(file)]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def plan(labelled_folder, tmp_path_factory) -> Plan:
    """Three epochs of four steps, on 15 training and 3 held-out images."""
    data = labelled_folder(tmp_path_factory.mktemp("plan") / "data", 6)
    options = TINY | {"dropout": "0.1"}
    return Plan(str(data), model="vit-ti/8", options=options, image_size=16, epochs=3, batch_size=4)


@pytest.fixture(scope="module")
def short(plan) -> Plan:
    return replace(plan, epochs=1)


@pytest.fixture(scope="module")
def whole(plan, tmp_path_factory) -> Path:
    """The result of the plan without an interruption."""
    return fit(plan, tmp_path_factory.mktemp("whole") / "runs" / "mine", device="cpu")


def test_a_run_fills_a_folder_that_loads(whole):
    assert {path.name for path in whole.iterdir()} == FILES
    loaded = checkpoint.load(whole)
    assert loaded.labels == ("cross", "disc", "stripes")
    assert loaded.preprocessing.size == (16, 16)
    assert len((whole / "metrics.csv").read_text().splitlines()) == 4
    header, *_ = (whole / "metrics.csv").read_text().splitlines()
    assert header == "epoch,loss,learning_rate,accuracy,images_per_s"
    assert f"patchserve serve --classifier {whole}\n" in (whole / "README.md").read_text()
    assert [path.name for path in whole.parent.iterdir()] == ["mine"]


def test_another_seed_gives_other_weights(short, tmp_path):
    one, other = fit(short, tmp_path / "one"), fit(replace(short, seed=2), tmp_path / "other")
    assert weights(one) != weights(other)


@pytest.mark.parametrize(
    "options",
    [{"steps": 1}, {"steps": 6}, {"steps": 8}, {"measurings": 2}, {"measurings": 3}],
    ids=["first step", "within an epoch", "last of an epoch", "measuring", "measuring at the end"],
)
def test_a_resumed_run_equals_an_uninterrupted_run(plan, whole, tmp_path, options):
    broken = tmp_path / "broken"
    interrupted(plan, broken, **options)
    assert {path.name for path in broken.iterdir()} <= {"state.pt", "metrics.csv"}
    torch.manual_seed(99)
    old = "epoch,loss,learning_rate,accuracy,mean_iou,images_per_s"  # of an earlier version
    (broken / "metrics.csv").write_text(f"{old}\n")
    resume(broken)
    assert weights(broken) == weights(whole)
    assert {path.name for path in broken.iterdir()} == FILES
    columns = ("epoch", "loss", "learning_rate", "accuracy")
    assert rows(broken, columns) == rows(whole, columns)


def test_a_failed_run_resumes_after_its_last_epoch(plan, whole, tmp_path, monkeypatch):
    broken = tmp_path / "broken"

    def fail(*arguments):
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(fit_module, "save", fail)
        with pytest.raises(OSError, match="the disk is full"):
            fit(plan, broken)
    (broken / "notes.txt").write_text("mine")
    resume(broken)
    assert weights(broken) == weights(whole)
    assert (broken / "notes.txt").read_text() == "mine"


def test_a_segmenter_of_the_article_keeps_its_snapshots_when_resumed(pets_folder, tmp_path):
    data = pets_folder(tmp_path / "pets", train=6, test=2)
    plan = Plan(str(data), preset="article", options=TINY, image_size=32, epochs=2, batch_size=3)
    out, broken = fit(plan, tmp_path / "out"), tmp_path / "broken"
    assert {path.name for path in out.iterdir()} == FILES | {"progress.png"}
    loaded = checkpoint.load(out)
    assert loaded.labels == ("pet", "background", "border")
    assert (loaded.preprocessing.resample, loaded.preprocessing.mean) == (0, None)
    assert json.loads((out / "config.json").read_text())["model_type"] == "patchserve_vit_segmenter"
    with Image.open(out / "progress.png") as image:
        assert image.width > image.height
    interrupted(plan, broken, steps=3)
    resume(broken)
    assert (broken / "progress.png").read_bytes() == (out / "progress.png").read_bytes()


def test_a_run_can_start_from_a_checkpoint_at_another_size(plan, whole, tmp_path):
    again = Plan(plan.data, source=str(whole), epochs=1, image_size=24)
    out = fit(again, tmp_path / "second")
    assert checkpoint.load(out).preprocessing.size == (24, 24)
    assert "mine, trained further" in (out / "README.md").read_text()


def test_a_distilled_run_resumes_with_its_teacher(plan, whole, tmp_path):
    student = replace(plan, model="deit-ti/8", teacher=str(whole), epochs=2)
    taught, broken = fit(student, tmp_path / "taught"), tmp_path / "broken"
    interrupted(student, broken, steps=3)
    resume(broken)
    assert weights(broken) == weights(taught)
    alone = fit(replace(student, teacher=None), tmp_path / "alone")
    assert weights(alone) != weights(taught)
    assert f"--teacher {whole}" in (taught / "README.md").read_text()


def test_an_existing_result_is_replaced_only_on_request_and_at_the_end(plan, short, tmp_path):
    out = fit(short, tmp_path / "out")
    before = weights(out)
    with pytest.raises(FileExistsError, match="--overwrite replaces it"):
        fit(plan, out)
    interrupted(plan, out, steps=1)
    assert weights(out) == before
    with pytest.raises(FileExistsError, match="--resume continues"):
        fit(plan, out)
    resume(out)
    assert weights(out) != before


def test_a_folder_with_other_files_is_never_replaced(short, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="not a file of a run"):
        fit(short, tmp_path / "other", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is a file"):
        fit(short, tmp_path / "file", overwrite=True)
    (tmp_path / "empty").mkdir()
    fit(short, tmp_path / "empty")


def test_a_run_cannot_be_resumed_with_other_options_or_data(plan, tmp_path):
    data = shutil.copytree(plan.data, tmp_path / "data")
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no interrupted run"):
        resume(out)
    interrupted(replace(plan, data=str(data)), out, steps=2)
    with pytest.raises(ValueError, match="epochs 3, not 5"):
        resume(out, options={"epochs": 5})
    (data / "disc/000.png").unlink()
    with pytest.raises(ValueError, match="has changed"):
        resume(out, options={"epochs": 3})


def test_an_interruption_before_the_first_step_leaves_nothing(plan, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(plan, tmp_path / "out", stop=lambda: True)
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_only_the_curves_are_missing(short, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "draw_curves", lambda *arguments: False)
    watcher = Interrupter()
    out = fit(short, tmp_path / "out", watcher=watcher)
    assert {path.name for path in out.iterdir()} == FILES - {"curves.png"}
    assert NO_CURVES in watcher.messages


@pytest.mark.parametrize("device", ["cuda:63", "abacus"])
def test_a_device_that_does_not_exist_is_refused(plan, tmp_path, device):
    with pytest.raises(ValueError, match=device):
        fit(plan, tmp_path / "out", device=device)
