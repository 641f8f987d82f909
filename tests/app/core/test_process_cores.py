"""The cores that a process may use."""

from app.core.process import core_count, usable_cores


def test_only_usable_cores_count(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5, 6}, raising=False)
    assert (usable_cores(), core_count()) == ({0, 5, 6}, 3)


def test_without_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert (usable_cores(), core_count()) == (set(), 7)
