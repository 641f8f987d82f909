"""How many items a batch takes: by cost, by the crowd, by memory."""

import pytest

from app.batching.batch_size import SUCCESSES_BEFORE_GROWTH, BatchSizer
from app.batching.costs import CostTable


def sized(costs: CostTable, most: int = 32) -> BatchSizer:
    sizer = BatchSizer(most)
    sizer.measured(costs)
    return sizer


def test_before_anything_is_measured_a_batch_is_as_large_as_it_may_be():
    assert BatchSizer(4).batch_size(100, narrow=False) == 4
    assert BatchSizer(4).seconds_per_item == 0.0


def test_what_an_item_adds_to_a_batch_is_an_average_of_late():
    sizer = sized(CostTable({1: 0.010, 2: 0.011}))
    assert sizer.largest == 2
    for _ in range(200):
        sizer.observe_lane_overhead(0.5)
    assert sizer.overhead_s == pytest.approx(0.5, rel=0.01)
    assert sizer.largest == 1
    assert sizer.seconds_per_item == pytest.approx(0.51, rel=0.01)


def test_what_other_threads_allow_is_an_average_of_late():
    sizer = sized(CostTable({1: 0.010}))
    for _ in range(200):
        sizer.observe_pool_time(0.2)
    assert sizer.pool_s == pytest.approx(0.2, rel=0.01)


def test_of_a_crowd_each_narrow_lane_has_a_batch_to_run_and_one_to_wait():
    sizer = sized(CostTable({1: 0.2}, {1: 0.3, 8: 0.6}, lanes=2))
    assert [sizer.batch_size(crowd, narrow=True) for crowd in (1, 4, 9, 100)] == [1, 1, 3, 8]
    assert sizer.seconds_per_item == pytest.approx(0.6 / 8 / 2)


def test_a_batch_is_no_larger_than_its_most_urgent_item_has_time_for():
    sizer = sized(CostTable({1: 0.1, 2: 0.15, 4: 0.2}))
    assert sizer.batch_size(9, narrow=False, within_s=0.16) == 2
    assert sizer.batch_size(9, narrow=False, within_s=0.01) == 1  # late, but it must go


@pytest.mark.parametrize(
    ("narrow_s", "crowd", "shared", "ahead"),
    [
        (0.012, 1, True, False),
        (0.012, 2, True, True),
        (0.12, 2, True, False),  # another model would wait for it
        (0.12, 2, False, True),
        (0.3, 2, False, False),
    ],
)
def test_short_batches_are_worth_having_at_hand_where_there_is_one_for_every_lane(
    narrow_s, crowd, shared, ahead
):
    sizer = sized(CostTable({1: 0.010}, {1: narrow_s}, lanes=1))
    assert sizer.prefetch(crowd, shared=shared) is ahead


def test_what_did_not_fit_is_not_tried_again_until_much_has_gone_well():
    sizer = sized(CostTable({1: 0.1, 4: 0.11, 16: 0.12}), most=16)
    sizer.on_out_of_memory(16)
    sizer.on_out_of_memory(8)
    assert sizer.largest == 4
    sizer.on_out_of_memory(16)  # told late, of a batch that was sent before
    assert sizer.largest == 4
    for _ in range(SUCCESSES_BEFORE_GROWTH):
        sizer.on_success(3)
    assert sizer.limit == 4  # smaller ones say nothing
    for _ in range(SUCCESSES_BEFORE_GROWTH):
        sizer.on_success(4)
    assert sizer.limit == 5
    for _ in range(100 * SUCCESSES_BEFORE_GROWTH):
        sizer.on_success(sizer.limit)
    assert sizer.limit == 16


def test_a_single_item_is_always_tried():
    sizer = BatchSizer(4)
    sizer.on_out_of_memory(1)
    assert sizer.batch_size(9, narrow=False) == 1
