"""How long a connection waits for its other side; the clock is the test's."""

import pytest

from app.server.limits import ConnectionLimits, Phase
from app.server.timeouts import ConnectionTimeouts

LIMITS = ConnectionLimits(
    header_timeout_s=10,
    upload_timeout_s=60,
    min_upload_bytes_per_s=1000,
    grace_s=5,
    answer_timeout_s=30,
    linger_s=1,
)


class Cycle:
    """As much of a request as its body is judged by."""

    def __init__(self, declared=None):
        self.received = 0
        self.declared = declared


class Fake:
    """A connection and its transport, and what became of it."""

    def __init__(self, phase, cycle=None):
        self.transport = self
        self.phase = phase
        self.timeout_generation = 0
        self.cycle = cycle
        self.answering = self.held_up = False
        self.unsent = 0
        self.fate = None

    def get_write_buffer_size(self):
        return self.unsent

    def is_closing(self):
        return self.fate in ("closed", "aborted")

    def close(self):
        self.fate = "closed"

    def abort(self):
        self.fate = "aborted"

    def refuse(self, error):
        self.fate = error.code


class Clock:
    """Looks at one connection four times a second."""

    def __init__(self, connection):
        self.now = 0.0
        self.connection = connection
        self._patience = ConnectionTimeouts(LIMITS, keep_alive_s=75)
        self._patience.look(connection, 0.0, 0.25)

    def run(self, seconds, bytes_per_s=0):
        """Let time pass, until the connection meets its fate; what became of it."""
        ends = self.now + seconds
        while self.now < ends and self.connection.fate is None:
            self.now += 0.25
            if self.connection.cycle is not None:
                self.connection.cycle.received += bytes_per_s / 4
            self._patience.look(self.connection, self.now, 0.25)
        return self.connection.fate


@pytest.mark.parametrize(
    ("connection", "seconds", "fate"),
    [
        (Fake(Phase.IDLE), 10, "closed"),
        (Fake(Phase.IDLE, Cycle()), 75, "closed"),
        (Fake(Phase.HEADERS), 10, "upload_too_slow"),
        (Fake(Phase.BODY, Cycle()), 5, "upload_too_slow"),
        (Fake(Phase.LINGER, Cycle()), 1, "closed"),
    ],
    ids=["first", "idle", "headers", "body", "lingering"],
)
def test_each_phase_has_its_time(connection, seconds, fate):
    clock = Clock(connection)
    assert clock.run(seconds - 0.25) is None
    assert clock.run(0.25) == fate


def test_the_time_begins_anew_with_each_turn():
    clock = Clock(Fake(Phase.HEADERS))
    for _ in range(5):
        assert clock.run(9) is None
        clock.connection.timeout_generation += 1


def test_a_request_that_is_being_answered_is_not_idle():
    connection = Fake(Phase.IDLE, Cycle())
    connection.answering = True
    assert Clock(connection).run(1000) is None


def test_a_body_that_comes_quickly_enough_has_the_time_there_is():
    clock = Clock(Fake(Phase.BODY, Cycle()))
    assert clock.run(59.75, bytes_per_s=1001) is None
    assert clock.run(0.25, bytes_per_s=1001) == "upload_too_slow"
    assert clock.now == 60


def test_a_body_that_grows_too_slowly_is_refused_long_before():
    clock = Clock(Fake(Phase.BODY, Cycle()))
    assert clock.run(60, bytes_per_s=999) == "upload_too_slow"
    assert clock.now == 5


def test_one_that_stops_is_refused_when_its_average_is_too_low():
    clock = Clock(Fake(Phase.BODY, Cycle()))
    assert clock.run(10, bytes_per_s=2000) is None
    assert clock.run(60) == "upload_too_slow"
    assert clock.now == pytest.approx(20, abs=0.5)


def test_one_that_declares_much_has_to_come_in_time():
    slow, quick = (Clock(Fake(Phase.BODY, Cycle(declared=6_000_000))) for _ in range(2))
    assert slow.run(59, bytes_per_s=49_000) == "upload_too_slow"
    assert slow.now == 5
    assert quick.run(59, bytes_per_s=51_000) is None


def test_who_waits_for_us_is_not_blamed():
    clock = Clock(Fake(Phase.BODY, Cycle()))
    clock.connection.held_up = True
    assert clock.run(1000) is None
    clock.connection.held_up = False
    assert clock.run(4.75) is None
    assert clock.run(0.25) == "upload_too_slow"


def test_an_answer_that_nobody_takes_ends_the_connection():
    clock = Clock(Fake(Phase.IDLE, Cycle()))
    clock.connection.unsent = 1000
    assert clock.run(29) is None
    clock.connection.unsent = 900  # some was taken
    assert clock.run(30) is None
    assert clock.run(0.25) == "aborted"


def test_nothing_is_done_to_a_connection_that_closes_but_not_for_ever():
    connection = Fake(Phase.HEADERS)
    connection.is_closing = lambda: True
    clock = Clock(connection)
    assert clock.run(100) is None
    connection.unsent = 5
    assert clock.run(31) == "aborted"
