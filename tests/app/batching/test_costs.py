"""What a warm-up measured, and what follows from it."""

import pytest

from app.batching.costs import CostTable, latency_batch_size, throughput_batch_size


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({1: 0.010}, 1),
        ({1: 0.010, 2: 0.020, 4: 0.040}, 1),  # a CPU: an image costs what it costs
        ({1: 0.010, 2: 0.011, 4: 0.013, 8: 0.020}, 8),  # a GPU: company is nearly free
        ({1: 0.010, 2: 0.0196, 4: 0.0392}, 1),  # a fiftieth is not worth anyone's waiting
    ],
)
def test_the_batch_limit_is_the_smallest_size_that_is_nearly_the_cheapest(costs, best):
    assert latency_batch_size(costs) == best


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({1: 0.010, 2: 0.020, 4: 0.040, 8: 0.080}, 8),  # none is dearer: fewer are handed over
        ({1: 0.010, 2: 0.020, 4: 0.040, 8: 0.083}, 4),  # by the image it is
        ({1: 0.100, 2: 0.200, 4: 0.400}, 2),  # others would wait long for it
        ({1: 0.300, 2: 0.600}, 1),
    ],
)
def test_a_crowd_is_run_in_the_largest_batches_that_are_nearly_the_cheapest(costs, best):
    assert throughput_batch_size(costs) == best
    sizes = CostTable({1: 0.1}, costs, lanes=2).sizes(narrow=True)
    assert sizes == sorted(((n, costs[n]) for n in costs if n <= best), reverse=True)


def test_the_dearer_an_image_is_by_itself_the_less_is_gained_by_large_batches():
    costs = CostTable({1: 0.0016, 2: 0.0018, 4: 0.0023, 8: 0.0035, 16: 0.0064, 32: 0.0098})
    best = {
        overhead_s: costs.sizes(narrow=False, overhead_s=overhead_s)[0] for overhead_s in (0, 0.1)
    }
    assert best == {0: (32, 0.0098), 0.1: (1, pytest.approx(0.1016))}
    assert costs.sizes(narrow=False, overhead_s=0.0022)[0][0] == 32
    assert costs.sizes(narrow=False, overhead_s=0.008)[0][0] == 8


def test_narrow_lanes_have_a_table_of_their_own():
    costs = CostTable({1: 0.005}, {1: 0.008, 2: 0.012}, lanes=2)
    assert costs.sizes(narrow=True) == [(2, 0.012), (1, 0.008)]
    assert costs.sizes(narrow=False) == [(1, 0.005)]
    assert costs.slowest == 0.012
    assert [costs.seconds(n, narrow=True) for n in (1, 2)] == [0.008, 0.012]
    assert [costs.seconds(n, narrow=False) for n in (1, 2)] == [0.005, 0.0]  # 2 was not measured


def test_a_batch_takes_as_long_as_one_of_the_next_measured_size():
    assert CostTable({1: 0.1}, {1: 0.1, 4: 0.2, 8: 0.3}).seconds(3, narrow=True) == 0.2


@pytest.mark.parametrize(("narrow", "alone"), [({}, True), ({1: 0.008}, True), ({1: 0.004}, False)])
def test_an_image_alone_goes_where_it_is_sooner_done(narrow, alone):
    assert CostTable({1: 0.005}, narrow, lanes=2).wide_alone is alone
