"""Cost tables, and the batch sizes that follow from them."""

import pytest

from app.batching.costs import CostTable, latency_batch_size, throughput_batch_size


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({1: 0.010}, 1),
        ({1: 0.010, 2: 0.020, 4: 0.040}, 1),  # a CPU: the cost per image is constant
        ({1: 0.010, 2: 0.011, 4: 0.013, 8: 0.020}, 8),  # a GPU: more images cost little
        ({1: 0.010, 2: 0.0196, 4: 0.0392}, 1),  # 2 % cheaper is not worth the wait
    ],
)
def test_the_latency_size_is_the_smallest_near_optimal_one(costs, best):
    assert latency_batch_size(costs) == best


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        (
            {1: 0.010, 2: 0.020, 4: 0.040, 8: 0.080},
            8,
        ),  # equal cost per image: fewer batches to send
        ({1: 0.010, 2: 0.020, 4: 0.040, 8: 0.083}, 4),  # the cost per image is higher
        ({1: 0.100, 2: 0.200, 4: 0.400}, 2),  # a batch of 0.4 s is too long
        ({1: 0.300, 2: 0.600}, 1),
    ],
)
def test_the_throughput_size_is_the_largest_near_optimal_one(costs, best):
    assert throughput_batch_size(costs) == best
    sizes = CostTable({1: 0.1}, costs, lanes=2).sizes(narrow=True)
    assert sizes == sorted(((n, costs[n]) for n in costs if n <= best), reverse=True)


@pytest.mark.parametrize(("image_s", "best"), [(0.0001, 32), (0.002, 4), (0.01, 1)])
def test_batches_on_the_wide_lane_are_larger_if_they_are_short(image_s, best):
    costs = CostTable({size: size * image_s for size in (1, 2, 4, 8, 16, 32)})
    assert costs.sizes(narrow=False)[0] == (best, pytest.approx(best * image_s))


def test_the_higher_the_overhead_of_an_image_the_smaller_the_batches():
    costs = CostTable({1: 0.0016, 2: 0.0018, 4: 0.0023, 8: 0.0035, 16: 0.0064, 32: 0.0098})
    best = {
        overhead_s: costs.sizes(narrow=False, overhead_s=overhead_s)[0] for overhead_s in (0, 0.1)
    }
    assert best == {0: (32, 0.0098), 0.1: (1, pytest.approx(0.1016))}
    assert costs.sizes(narrow=False, overhead_s=0.0022)[0][0] == 32
    assert costs.sizes(narrow=False, overhead_s=0.008)[0][0] == 8


def test_narrow_lanes_have_their_own_table():
    costs = CostTable({1: 0.005}, {1: 0.008, 2: 0.012}, lanes=2)
    assert costs.sizes(narrow=True) == [(2, 0.012), (1, 0.008)]
    assert costs.sizes(narrow=False) == [(1, 0.005)]
    assert costs.slowest == 0.012
    assert [costs.seconds(n, narrow=True) for n in (1, 2)] == [0.008, 0.012]
    assert [costs.seconds(n, narrow=False) for n in (1, 2)] == [0.005, 0.0]  # 2 was not measured


def test_a_size_that_was_not_measured_costs_as_much_as_the_next_larger_one():
    assert CostTable({1: 0.1}, {1: 0.1, 4: 0.2, 8: 0.3}).seconds(3, narrow=True) == 0.2


@pytest.mark.parametrize(("narrow", "alone"), [({}, True), ({1: 0.008}, True), ({1: 0.004}, False)])
def test_a_single_image_runs_on_the_faster_lane(narrow, alone):
    assert CostTable({1: 0.005}, narrow, lanes=2).wide_alone is alone
