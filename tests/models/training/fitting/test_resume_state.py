import pytest
import torch

from models.training.fitting.resume_state import STATE, read_state, write_state


def test_the_state_is_read_back(tmp_path):
    state = {"tensor": torch.arange(3), "rows": [(1, 0.5)], "none": None, "deep": {"a": 1.0}}
    write_state(tmp_path, {"old": 1})
    write_state(tmp_path, state)
    back = read_state(tmp_path)
    assert torch.equal(back.pop("tensor"), state.pop("tensor"))
    assert back == state
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_a_failed_write_keeps_the_previous_state(tmp_path):
    write_state(tmp_path, {"epoch": 1})
    with pytest.raises(TypeError):
        write_state(tmp_path, {"epoch": (n for n in ())})
    assert read_state(tmp_path) == {"epoch": 1}


def test_a_full_disk_is_an_os_error(tmp_path, monkeypatch):
    def save(state, file):
        raise RuntimeError("unexpected pos 64 vs 0")  # as torch does

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="cannot be written: unexpected pos"):
        write_state(tmp_path, {"epoch": 1})


def test_a_missing_state_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no interrupted run"):
        read_state(tmp_path)


def test_a_damaged_state_is_refused(tmp_path):
    write_state(tmp_path, {"epoch": 1})
    whole = (tmp_path / STATE).read_bytes()
    for broken in (whole[:200], b"", b"text"):
        (tmp_path / STATE).write_bytes(broken)
        with pytest.raises(ValueError, match="damaged"):
            read_state(tmp_path)
    torch.save([1], tmp_path / STATE)
    with pytest.raises(ValueError, match="not the state of a run"):
        read_state(tmp_path)


class Code:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_state_is_not_run(tmp_path, capsys):
    torch.save(Code(), tmp_path / STATE)
    with pytest.raises(ValueError, match="damaged"):
        read_state(tmp_path)
    assert "must not run" not in capsys.readouterr().out
