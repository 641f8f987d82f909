import io
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from models import checkpoint
from models.training import evaluate
from models.training.bundled.curriculum import Curriculum
from models.training.bundled.train_all import train_all
from models.training.scenes.scene import UNSEEN_SEED

TINY = Curriculum(scenes=24, steps=4, batch_size=8, learning_rate=1e-3, alone=0.25)
LONG = replace(TINY, steps=100_000)
BROKEN = replace(TINY, scenes=4)


def test_both_networks_are_trained_side_by_side(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    curricula = {"classify": TINY, "segment": TINY}
    folders = train_all(tmp_path, seed=3, console=console, curricula=curricula, measured=4)
    assert [checkpoint.load(folder).task for folder in folders] == ["classify", "segment"]
    shown = console.file.getvalue()
    assert "classify: training" in shown
    assert "segment: measuring" in shown
    assert "loss" in shown


def test_failed_run_stops_the_other_and_says_so(tmp_path, capfd):
    curricula = {"classify": BROKEN, "segment": LONG}
    with pytest.raises(ChildProcessError, match="classify failed"):
        train_all(tmp_path, console=Console(file=io.StringIO()), curricula=curricula, measured=4)
    assert list(tmp_path.iterdir()) == []
    assert "does not fill a batch" in capfd.readouterr().err


def test_nothing_begins_when_it_would_be_for_nothing(tmp_path):
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
from models.training.bundled.train import CURRICULA
from models.training.bundled.train_all import train_all
from rich.console import Console

if __name__ == "__main__":
    long = {task: replace(one, scenes=200) for task, one in CURRICULA.items()}
    train_all(Path(sys.argv[1]), curricula=long, console=Console(force_terminal=True))
"""


def test_interrupt_ends_both_runs_and_leaves_nothing(tmp_path):
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, script, out], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        shown = b""
        while b"segment: training" not in shown or b"classify: training" not in shown:
            shown += (part := process.stdout.read1())
            assert part, "it ended before both runs were training"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()  # the runs end when there is nobody to report to
    assert process.returncode != 0
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.slow
def test_command_trains_anew_what_reaches_the_quality_that_ships(tmp_path):
    command = [Path(sys.executable).with_name("patchserve"), "train", "--out", tmp_path]
    subprocess.run(command, check=True)
    quality = evaluate(tmp_path / "shapes-vit", tmp_path / "shapes-segformer")
    assert quality.accuracy >= 0.97
    assert quality.mean_iou >= 0.90
