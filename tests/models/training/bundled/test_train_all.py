import io
import signal
import subprocess
import sys
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from rich.console import Console

from models import checkpoint
from models.training import evaluate
from models.training.bundled.recipe import RECIPES
from models.training.bundled.train_all import train_all, work
from models.training.data.curriculum import Curriculum
from models.training.scenes.scene import UNSEEN_SEED

TINY = {
    task: replace(recipe, batch_size=4, curriculum=Curriculum(24, 2, single_steps=0.25))
    for task, recipe in RECIPES.items()
}


def test_both_networks_are_trained_side_by_side(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    folders = train_all(tmp_path, seed=3, console=console, recipes=TINY, measured=2)
    assert [checkpoint.load(folder).task for folder in folders] == ["classify", "segment"]
    shown = console.file.getvalue()
    assert "classify: training" in shown
    assert "segment: measuring" in shown
    assert "loss" in shown


def test_a_run_sends_its_progress_to_the_parent_process(tmp_path, monkeypatch):
    """The child process's function, called in this process."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    receiving, sending = Pipe(duplex=False)
    work("classify", tmp_path, {"recipe": TINY["classify"], "measured": 2}, sending)
    messages = []
    while receiving.poll():
        messages.append(receiving.recv())
    assert {phase for phase, *_ in messages} == {"drawing", "training", "measuring"}
    assert all(0 < done <= total for _, done, total, _ in messages)
    assert all(loss.startswith("loss ") for phase, *_, loss in messages if phase == "training")
    assert checkpoint.load(tmp_path / "shapes-vit").task == "classify"


@pytest.mark.slow
def test_a_failed_run_stops_the_other_run(tmp_path, capfd):
    too_few = replace(TINY["classify"], curriculum=Curriculum(2, 2, 0.25))
    long = replace(TINY["segment"], curriculum=Curriculum(24, 100_000, 0.25))
    recipes = {"classify": too_few, "segment": long}
    with pytest.raises(ChildProcessError, match="classify failed"):
        train_all(tmp_path, console=Console(file=io.StringIO()), recipes=recipes, measured=2)
    assert list(tmp_path.iterdir()) == []
    assert "do not fill a batch" in capfd.readouterr().err


def test_nothing_starts_if_a_folder_exists_or_the_seed_is_refused(tmp_path):
    (tmp_path / "shapes-segformer").mkdir()
    with pytest.raises(FileExistsError):
        train_all(tmp_path)
    with pytest.raises(ValueError, match="kept for measuring"):
        train_all(tmp_path / "elsewhere", seed=UNSEEN_SEED)
    assert not (tmp_path / "elsewhere").exists()


SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from models.training.bundled.recipe import RECIPES
from models.training.bundled.train_all import train_all, work
from models.training.data.curriculum import Curriculum
from rich.console import Console

if __name__ == "__main__":
    long = {
        task: replace(recipe, batch_size=4, curriculum=Curriculum(24, 100_000, 0.25))
        for task, recipe in RECIPES.items()
    }
    train_all(Path(sys.argv[1]), recipes=long, console=Console(force_terminal=True))
"""


@pytest.mark.slow
def test_an_interrupt_ends_both_runs_and_leaves_nothing(tmp_path):
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, out], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        shown = b""
        while b"segment: training" not in shown or b"classify: training" not in shown:
            shown += (part := process.stdout.read1())
            assert part, "the process ended before both runs were training"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()  # the runs end when their parent process does
    assert process.returncode != 0
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.slow
def test_the_command_trains_checkpoints_of_the_bundled_quality(tmp_path):
    command = [Path(sys.executable).with_name("patchserve"), "train", "--out", tmp_path]
    subprocess.run(command, check=True)
    quality = evaluate(tmp_path / "shapes-vit", tmp_path / "shapes-segformer")
    assert quality.accuracy >= 0.97
    assert quality.mean_iou >= 0.90
