"""Batch sizes: by costs, load and memory."""

import pytest

from app.batching.batch_size import SUCCESSES_BEFORE_GROWTH, BatchSizer
from app.batching.costs import CostTable


def sizer_for(costs: CostTable, max_batch_size: int = 32) -> BatchSizer:
    sizer = BatchSizer(max_batch_size)
    sizer.measured(costs)
    return sizer


def test_before_the_warm_up_a_batch_has_the_maximum_size():
    assert BatchSizer(4).batch_size(100, narrow=False) == 4
    assert BatchSizer(4).seconds_under_load() == (0.0, 0.0)


def test_a_high_overhead_of_each_item_makes_batches_small():
    sizer = sizer_for(CostTable({1: 0.010, 2: 0.011}))
    assert sizer.largest == 2
    for _ in range(200):
        sizer.observe_lane_overhead(0.5)
    assert sizer.overhead_s.value == pytest.approx(0.5, rel=0.01)
    assert sizer.largest == 1
    assert sizer.seconds_under_load() == pytest.approx((0.51, 0.01), rel=0.01)


def test_under_load_each_narrow_lane_gets_an_equal_share_in_two_batches():
    sizer = sizer_for(CostTable({1: 0.2}, {1: 0.3, 8: 0.6}, lanes=2))
    assert [sizer.batch_size(load, narrow=True) for load in (1, 4, 9, 100)] == [1, 1, 3, 8]
    assert sizer.seconds_under_load() == pytest.approx((0.6, 0.6 / 8))


def test_a_batch_ends_before_the_deadline_of_its_most_urgent_item():
    sizer = sizer_for(CostTable({1: 0.1, 2: 0.15, 4: 0.2}))
    assert sizer.batch_size(9, narrow=False, within_s=0.16) == 2
    assert sizer.batch_size(9, narrow=False, within_s=0.01) == 1  # it is late with any size


@pytest.mark.parametrize(
    ("narrow_s", "load", "shared", "prefetched"),
    [
        (0.012, 1, True, False),
        (0.012, 2, True, True),
        (0.12, 2, True, False),  # too long for another model to wait
        (0.12, 2, False, True),
        (0.3, 2, False, False),
    ],
)
def test_short_batches_are_prefetched_if_there_is_one_for_every_lane(
    narrow_s, load, shared, prefetched
):
    sizer = sizer_for(CostTable({1: 0.010}, {1: narrow_s}, lanes=1))
    assert sizer.prefetch(load, shared=shared) is prefetched


def test_after_out_of_memory_the_limit_grows_again_only_after_many_successes():
    sizer = sizer_for(CostTable({1: 0.1, 4: 0.11, 16: 0.12}), max_batch_size=16)
    sizer.on_out_of_memory(16)
    sizer.on_out_of_memory(8)
    assert sizer.largest == 4
    sizer.on_out_of_memory(16)  # a batch that was sent before the limit was lowered
    assert sizer.largest == 4
    for _ in range(SUCCESSES_BEFORE_GROWTH):
        sizer.on_success(3)
    assert sizer.limit == 4  # smaller batches do not count
    for _ in range(SUCCESSES_BEFORE_GROWTH):
        sizer.on_success(4)
    assert sizer.limit == 5
    for _ in range(100 * SUCCESSES_BEFORE_GROWTH):
        sizer.on_success(sizer.limit)
    assert sizer.limit == 16


def test_the_limit_is_at_least_one_item():
    sizer = BatchSizer(4)
    sizer.on_out_of_memory(1)
    assert sizer.batch_size(9, narrow=False) == 1
