"""How many threads there are."""

from app.engine import lanes


def test_a_cpu_has_a_lane_for_each_core_beside_the_wide_one(monkeypatch):
    monkeypatch.setattr(lanes, "core_count", lambda: 4)
    assert (lanes.narrow_lanes("cpu"), lanes.wide_threads("cpu")) == (4, 4)


def test_a_gpu_has_one_lane_that_leaves_the_cores_to_the_images(monkeypatch):
    monkeypatch.setattr(lanes, "core_count", lambda: 4)
    assert (lanes.narrow_lanes("cuda:1"), lanes.wide_threads("cuda:1")) == (0, 0)
    assert lanes.image_threads() == 4
