"""One model put to service: what its warm-up decides."""

import pytest

from app.deployment import best_batch_size


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
    assert best_batch_size(costs) == best
