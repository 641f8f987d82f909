"""One model put to service: what its warm-up decides, and the work on an image, either way."""

import pytest

from app.deployment import slowest_of

pytestmark = pytest.mark.anyio


def test_lanes_that_work_at_once_are_taken_to_be_as_slow_as_the_slowest():
    assert slowest_of([{1: 0.010, 2: 0.020}, {1: 0.012, 2: 0.019, 4: 0.040}]) == {
        1: 0.012,
        2: 0.020,
    }
    assert slowest_of([]) == {}
