"""What a warm-up on several lanes decides."""

from app.batching.warmup import slowest_of


def test_lanes_that_work_at_once_are_taken_to_be_as_slow_as_the_slowest():
    assert slowest_of([{1: 0.010, 2: 0.020}, {1: 0.012, 2: 0.019, 4: 0.040}]) == {
        1: 0.012,
        2: 0.020,
    }
    assert slowest_of([]) == {}
