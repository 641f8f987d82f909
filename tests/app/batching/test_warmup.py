"""The warm-up on several lanes."""

from app.batching.warmup import slowest_of


def test_the_cost_on_several_lanes_is_that_of_the_slowest_lane():
    assert slowest_of([{1: 0.010, 2: 0.020}, {1: 0.012, 2: 0.019, 4: 0.040}]) == {
        1: 0.012,
        2: 0.020,
    }
    assert slowest_of([]) == {}
