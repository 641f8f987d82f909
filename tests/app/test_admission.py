"""Places in the queue: taken, given back, and refused with a time to retry."""

import asyncio

import pytest

from app.admission import Admission
from app.errors import Overloaded

pytestmark = pytest.mark.anyio


def later(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_full_queue_refuses_with_a_time_to_retry():
    admission = Admission(max_queue_size=2)
    with admission.reserve(later()), admission.reserve(later()):
        assert admission.depth == 2
        with pytest.raises(Overloaded, match="full") as refused:
            admission.reserve(later())
        assert refused.value.retry_after_s > 0
    assert admission.depth == 0
    admission.reserve(later()).give_back()


async def test_a_wait_that_passes_the_deadline_is_refused_on_arrival():
    admission = Admission(max_queue_size=8)
    admission.seconds_per_item = 5.0
    with admission.reserve(later()):
        assert admission.predicted_wait() == pytest.approx(5.0)
        with pytest.raises(Overloaded, match="deadline") as refused:
            admission.reserve(later(4.0))
        assert 5.0 <= refused.value.retry_after_s <= 7.5
        admission.reserve(later(6.0)).give_back()


async def test_a_place_is_given_back_once():
    admission = Admission(max_queue_size=8)
    with admission.reserve(later()) as ticket, admission.reserve(later()):
        ticket.give_back()
        ticket.give_back()
        assert admission.depth == 1
    assert admission.depth == 0


async def test_the_drain_rate_follows_what_is_measured():
    admission = Admission(max_queue_size=8)
    admission.measured(0.5)
    assert admission.seconds_per_item == 0.5
    for _ in range(50):
        admission.measured(0.1)
    assert admission.seconds_per_item == pytest.approx(0.1, rel=0.01)
