from app.core.process import core_count, usable_cores


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5, 6}, raising=False)
    assert (usable_cores(), core_count()) == ({0, 5, 6}, 3)


def test_without_affinity_every_core_counts(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert (usable_cores(), core_count()) == (set(), 7)
