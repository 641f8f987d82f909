"""How many threads there are."""

from app.engine import cores


def test_a_cpu_has_a_lane_for_each_core_beside_the_wide_one(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    assert (cores.narrow_lanes("cpu"), cores.wide_threads("cpu")) == (4, 4)


def test_a_gpu_has_one_lane_that_leaves_the_cores_to_the_images(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    assert (cores.narrow_lanes("cuda:1"), cores.wide_threads("cuda:1")) == (0, 0)
    assert cores.image_threads() == 4


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5, 6}, raising=False)
    assert cores.usable_cores() == 3


def test_without_affinity_every_core_counts(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert cores.usable_cores() == 7
