"""The number of lanes and threads."""

from app.engine import lanes


def test_a_cpu_has_a_wide_lane_and_a_narrow_lane_for_each_core(monkeypatch):
    monkeypatch.setattr(lanes, "core_count", lambda: 4)
    assert (lanes.narrow_lanes("cpu"), lanes.wide_threads("cpu")) == (4, 4)


def test_a_gpu_has_one_lane_and_image_threads_on_all_cores(monkeypatch):
    monkeypatch.setattr(lanes, "core_count", lambda: 4)
    assert (lanes.narrow_lanes("cuda:1"), lanes.wide_threads("cuda:1")) == (0, 0)
    assert lanes.image_threads() == 4
