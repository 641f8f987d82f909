from pathlib import Path

import pytest

from models.training.atomic_folder import UNFINISHED, published


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def interrupted(target):
    with published(target, ["weights"]) as folder:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt


def test_a_folder_is_created_with_all_files(tmp_path):
    target = tmp_path / "runs/new"
    with published(target) as folder:
        (folder / "weights").write_text("new")
    assert content(target) == {"weights": "new"}


def test_files_are_replaced_or_deleted_and_others_are_kept(tmp_path):
    for name in ("weights", "state", "curves", "notes"):
        (tmp_path / name).write_text("old")
    (tmp_path / UNFINISHED).mkdir()  # left by a process that was killed
    (tmp_path / UNFINISHED / "rest").touch()
    with published(tmp_path, outdated=["weights", "state", "absent"]) as folder:
        (folder / "weights").write_text("new")
        assert (tmp_path / "weights").read_text() == "old"
    assert content(tmp_path) == {"weights": "new", "curves": "old", "notes": "old"}


def test_a_failure_changes_nothing(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "weights").write_text("old")
    for target in (old, new):
        with pytest.raises(KeyboardInterrupt):
            interrupted(target)
    assert content(old) == {"weights": "old"}
    assert not new.exists()


def test_the_target_may_be_the_current_folder_or_a_link(tmp_path, monkeypatch):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    monkeypatch.chdir(real)
    for number, target in enumerate((Path(), link)):
        with published(target) as folder:
            (folder / "weights").write_text(str(number))
        assert content(real) == content(link) == {"weights": str(number)}
    assert link.is_symlink()
