"""The number of lanes and threads."""

import pytest

from app.engine import lanes


def test_a_cpu_has_a_wide_lane_and_a_narrow_lane_for_each_core():
    assert (lanes.narrow_lanes("cpu", 4), lanes.wide_threads("cpu", 4)) == (4, 4)
    assert lanes.image_threads("cpu", 4) == 4


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (16, 14)])
def test_a_gpu_has_one_lane_and_leaves_two_cores_to_it_and_the_event_loop(cores, threads):
    assert (lanes.narrow_lanes("cuda:1", cores), lanes.wide_threads("cuda:1", cores)) == (0, 0)
    assert lanes.image_threads("cuda:1", cores) == threads
