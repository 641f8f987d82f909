"""Places in the queue: taken, given back, and refused with a time to retry."""

import asyncio
from contextlib import suppress

import pytest

from app.batching.admission import SAFETY_FACTOR, AdmissionController
from app.core.errors import DeadlineExceeded, Overloaded

pytestmark = pytest.mark.anyio


def later(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_full_queue_refuses_with_a_time_to_retry():
    admission = AdmissionController(max_queue_size=2)
    with admission.reserve(later()), admission.reserve(later()):
        assert admission.depth == 2
        with pytest.raises(Overloaded, match="full") as refused:
            admission.reserve(later())
        assert refused.value.retry_after_s > 0
    assert admission.depth == 0
    admission.reserve(later()).give_back()


async def test_a_wait_that_passes_the_deadline_is_refused_on_arrival():
    admission = AdmissionController(max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 5.0
    with admission.reserve(later(8.0)):
        assert admission.predicted_wait() == pytest.approx(10.0)
        with pytest.raises(Overloaded, match="deadline") as refused:
            admission.reserve(later(10.5))
        assert 10.0 <= refused.value.retry_after_s <= 15.0
        admission.reserve(later(70.0)).give_back()


async def test_where_nobody_waits_the_deadline_decides_and_not_a_prediction():
    admission = AdmissionController(max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 5.0
    admission.reserve(later(1.0)).give_back()


async def test_who_is_more_urgent_goes_first_but_makes_nobody_late():
    admission = AdmissionController(max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 1.0
    patient, soon = admission.reserve(later(60.0)), admission.reserve(later(2.0))
    assert admission.queued == [soon, patient]
    with pytest.raises(Overloaded, match="somebody who was admitted earlier"):
        admission.reserve(later(1.9))
    admission.reserve(later(30.0))  # between the two: `patient` has time
    assert admission.depth == 3


async def test_who_is_late_already_refuses_nobody_else():
    admission = AdmissionController(max_queue_size=8)
    admission.seconds_per_item = admission.batch_s = 0.1
    running, late = admission.reserve(later()), admission.reserve(later(0.5))
    running.run()
    admission.seconds_per_item = admission.batch_s = 5.0  # the device has slowed down
    late.deadline += 7.0
    admission.reserve(later(60.0)).give_back()
    with pytest.raises(Overloaded):
        admission.reserve(later(7.0))


async def test_an_item_in_a_batch_leaves_its_place_and_counts_until_it_is_done():
    admission = AdmissionController(max_queue_size=1)
    admission.seconds_per_item = admission.batch_s = 1.0
    with admission.reserve(later()) as ticket:
        ticket.run()
        ticket.run()
        assert (admission.depth, admission.running) == (0, 1)
        assert admission.predicted_wait() == pytest.approx(2.0)
        admission.reserve(later()).give_back()
    assert (admission.depth, admission.running) == (0, 0)


async def test_who_left_before_the_batch_does_not_run():
    admission = AdmissionController(max_queue_size=1)
    ticket = admission.reserve(later())
    ticket.give_back()
    ticket.run()
    assert (admission.depth, admission.running) == (0, 0)


async def test_a_place_is_given_back_once():
    admission = AdmissionController(max_queue_size=8)
    with admission.reserve(later()) as ticket, admission.reserve(later()):
        ticket.give_back()
        ticket.give_back()
        assert admission.depth == 1
    assert admission.depth == 0


async def test_deadlines_that_are_missed_make_the_prediction_more_careful_and_kept_ones_less():
    admission = AdmissionController(max_queue_size=99)
    running = admission.reserve(later())
    running.run()
    with suppress(DeadlineExceeded), admission.reserve(later()):
        raise DeadlineExceeded("late")
    raised = admission.safety_factor
    assert raised > SAFETY_FACTOR
    with admission.reserve(later()) as ticket:
        ticket.run()
    assert SAFETY_FACTOR < admission.safety_factor < raised


async def test_who_came_without_a_prediction_or_left_early_teaches_nothing():
    admission = AdmissionController(max_queue_size=99)
    with suppress(DeadlineExceeded), admission.reserve(later()):
        raise DeadlineExceeded("it was alone, and asked for too little time")
    with admission.reserve(later()), suppress(ValueError), admission.reserve(later()):
        raise ValueError("left")
    assert admission.safety_factor == SAFETY_FACTOR
