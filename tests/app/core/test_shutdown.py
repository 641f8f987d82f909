"""The state of a shutdown, with a clock that the test advances."""

import pytest

from app.core.errors import Draining, NotReady
from app.core.shutdown import Shutdown


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shutdown(clock):
    return Shutdown(5.0, 12.0, clock)


def test_before_begin_requests_are_accepted(shutdown, clock):
    clock.now += 1e6
    assert not any((shutdown.begun, shutdown.refusing, shutdown.overdue))
    assert shutdown.reason_unready is shutdown.reason_dead is shutdown.refusal is None


def test_a_lame_duck_is_unready_and_alive_and_accepts_requests(shutdown, clock):
    shutdown.begin()
    clock.now += 4.9
    assert shutdown.begun
    assert (shutdown.reason_unready, shutdown.reason_dead) == ("draining", None)
    assert shutdown.refusal is None


def test_after_the_lame_duck_time_requests_are_refused_until_overdue(shutdown, clock):
    shutdown.begin()
    clock.now += 5
    assert isinstance(shutdown.refusal, Draining)
    assert shutdown.refusal.problem("id")["retry_after_ms"] == 1000
    assert shutdown.refusing
    assert not shutdown.overdue
    clock.now += 12
    assert shutdown.overdue


def test_a_second_begin_gives_no_more_time(shutdown, clock):
    shutdown.begin()
    clock.now += 4
    shutdown.begin()
    clock.now += 1
    assert shutdown.refusing


def test_a_failed_service_is_dead_and_refuses_at_once(shutdown):
    shutdown.fail()
    assert shutdown.reason_unready == shutdown.reason_dead is not None
    assert isinstance(shutdown.refusal, NotReady)
    assert shutdown.refusal.retryable
    assert not shutdown.begun
