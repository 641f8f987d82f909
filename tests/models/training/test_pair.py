import io

import pytest
from rich.console import Console

from models import checkpoint
from models.training.loop import Recipe
from models.training.pair import train_all

TINY = Recipe(scenes=24, steps=4, batch_size=8, learning_rate=1e-3, alone=0.25)
BROKEN = Recipe(scenes=4, steps=4, batch_size=8, learning_rate=1e-3, alone=0.25)


def test_both_networks_are_trained_side_by_side(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    recipes = {"classify": TINY, "segment": TINY}
    folders = train_all(tmp_path, seed=3, console=console, recipes=recipes, measured=4)
    assert [checkpoint.load(folder).task for folder in folders] == ["classify", "segment"]
    shown = console.file.getvalue()
    assert "classify: training" in shown
    assert "segment: measuring" in shown
    assert "loss" in shown


def test_failed_run_stops_the_other_and_says_so(tmp_path, capfd):
    recipes = {"classify": BROKEN, "segment": TINY.__class__(**{**vars(TINY), "steps": 100_000})}
    with pytest.raises(ChildProcessError, match="classify failed"):
        train_all(tmp_path, console=Console(file=io.StringIO()), recipes=recipes, measured=4)
    assert list(tmp_path.iterdir()) == []
    assert "does not fill a batch" in capfd.readouterr().err


def test_nothing_begins_when_a_folder_is_there(tmp_path):
    (tmp_path / "shapes-segformer").mkdir()
    with pytest.raises(FileExistsError):
        train_all(tmp_path)
