"""The timeouts of a connection, on a fake clock."""

import pytest

from app.server.limits import ConnectionLimits, Phase
from app.server.timeouts import ConnectionTimeouts

LIMITS = ConnectionLimits(
    header_timeout_s=10,
    upload_timeout_s=60,
    min_upload_bytes_per_s=1000,
    grace_s=5,
    send_timeout_s=30,
    min_download_bytes_per_s=1000,
    linger_s=1,
)


class Cycle:
    """The fields of a request that its timeouts read."""

    def __init__(self, content_length=None):
        self.received = 0
        self.content_length = content_length


class Fake:
    """A connection that is its own transport, and how it ended."""

    def __init__(self, phase, cycle=None):
        self.transport = self
        self.phase = phase
        self.timeout_generation = 0
        self.cycle = cycle
        self.responding = self.blocked_by_server = False
        self.unsent = 0
        self.outcome = None

    def get_write_buffer_size(self):
        return self.unsent

    def is_closing(self):
        return self.outcome in ("closed", "slow_receiver")

    def close(self):
        self.outcome = "closed"

    def abort(self, reason):
        self.outcome = reason

    def refuse(self, error):
        self.outcome = error.code


class Clock:
    """Checks one connection four times a second."""

    def __init__(self, connection):
        self.now = 0.0
        self.connection = connection
        self._timeouts = ConnectionTimeouts(LIMITS, keep_alive_s=75)
        self._timeouts.check(connection, 0.0, 0.25)

    def run(self, seconds, bytes_per_s=0):
        """Let time pass until the connection ends; return how it ended, or None."""
        ends = self.now + seconds
        while self.now < ends and self.connection.outcome is None:
            self.now += 0.25
            if self.connection.cycle is not None:
                self.connection.cycle.received += bytes_per_s / 4
            self._timeouts.check(self.connection, self.now, 0.25)
        return self.connection.outcome


@pytest.mark.parametrize(
    ("connection", "seconds", "outcome"),
    [
        (Fake(Phase.IDLE), 10, "closed"),
        (Fake(Phase.IDLE, Cycle()), 75, "closed"),
        (Fake(Phase.HEADERS), 10, "upload_too_slow"),
        (Fake(Phase.BODY, Cycle()), 5, "upload_too_slow"),
        (Fake(Phase.LINGER, Cycle()), 1, "closed"),
    ],
    ids=["first", "idle", "headers", "body", "lingering"],
)
def test_each_phase_has_its_timeout(connection, seconds, outcome):
    clock = Clock(connection)
    assert clock.run(seconds - 0.25) is None
    assert clock.run(0.25) == outcome


def test_a_timeout_starts_again_with_each_generation():
    clock = Clock(Fake(Phase.HEADERS))
    for _ in range(5):
        assert clock.run(9) is None
        clock.connection.timeout_generation += 1


def test_a_connection_with_a_pending_response_is_not_idle():
    connection = Fake(Phase.IDLE, Cycle())
    connection.responding = True
    assert Clock(connection).run(1000) is None


def test_a_body_that_arrives_fast_enough_has_the_whole_upload_timeout():
    clock = Clock(Fake(Phase.BODY, Cycle()))
    assert clock.run(59.75, bytes_per_s=1001) is None
    assert clock.run(0.25, bytes_per_s=1001) == "upload_too_slow"
    assert clock.now == 60


def test_a_body_that_arrives_too_slowly_is_refused_after_the_grace():
    clock = Clock(Fake(Phase.BODY, Cycle()))
    assert clock.run(60, bytes_per_s=999) == "upload_too_slow"
    assert clock.now == 5


def test_a_body_that_stops_is_refused_when_its_average_rate_is_too_low():
    clock = Clock(Fake(Phase.BODY, Cycle()))
    assert clock.run(10, bytes_per_s=2000) is None
    assert clock.run(60) == "upload_too_slow"
    assert clock.now == pytest.approx(20, abs=0.5)


def test_time_in_which_the_client_waits_for_the_server_does_not_count():
    clock = Clock(Fake(Phase.BODY, Cycle()))
    clock.connection.blocked_by_server = True
    assert clock.run(1000) is None
    clock.connection.blocked_by_server = False
    assert clock.run(4.75) is None
    assert clock.run(0.25) == "upload_too_slow"


@pytest.mark.parametrize(("bytes_per_s", "ends_at"), [(0, 30), (999, 30), (1001, 100)])
def test_a_client_that_receives_a_response_too_slowly_is_disconnected(bytes_per_s, ends_at):
    clock = Clock(Fake(Phase.IDLE, Cycle()))
    clock.connection.responding = True
    clock.connection.unsent = 100_000
    while clock.connection.outcome is None and clock.connection.unsent > 0:
        clock.run(0.25)
        clock.connection.unsent -= bytes_per_s / 4
    assert clock.connection.outcome == ("slow_receiver" if ends_at == 30 else None)
    assert clock.now == pytest.approx(ends_at, abs=0.5)


def test_a_client_that_stops_receiving_is_disconnected_within_twice_the_timeout():
    clock = Clock(Fake(Phase.IDLE, Cycle()))
    clock.connection.responding = True
    clock.connection.unsent = 100_000
    assert clock.run(1) is None
    clock.connection.unsent = 50_000
    assert clock.run(60) == "slow_receiver"
    assert clock.now <= 60.5
    assert clock._timeouts._unsent.size == 0  # freed, so the limit on all bytes does not count it


def test_each_response_has_its_own_time():
    clock = Clock(Fake(Phase.IDLE, Cycle()))
    clock.connection.responding = True
    for size in (1000, 2000, 3000):
        clock.connection.unsent = size
        assert clock.run(29) is None
    assert clock.run(2) == "slow_receiver"


def test_a_closing_connection_is_left_alone_until_sending_stalls():
    connection = Fake(Phase.HEADERS)
    connection.is_closing = lambda: True
    clock = Clock(connection)
    assert clock.run(100) is None
    connection.unsent = 5
    assert clock.run(31) == "slow_receiver"
