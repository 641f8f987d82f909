import pytest

from app.server.counted import LEAST_IDLE_S, CountedConnections


class Connection:
    """A connection that is its own transport."""

    def __init__(self):
        self.transport = self
        self.unsent = 0
        self.closed = False

    def get_write_buffer_size(self):
        return self.unsent

    def close(self):
        self.closed = True

    abort = close


class Setup:
    """Three connections that became idle one after the other, and their clock."""

    def __init__(self):
        self.now = 0.0
        self.counted = CountedConnections(lambda: self.now)
        self.connections = [Connection() for _ in range(3)]
        for connection in self.connections:
            self.counted.add(connection)
            self.now += 0.1
        self.now += LEAST_IDLE_S

    @property
    def closed(self):
        return [connection.closed for connection in self.connections]


@pytest.fixture
def setup():
    return Setup()


def test_the_connection_that_is_idle_for_longest_is_closed_first(setup):
    counted, (first, second, _) = setup.counted, setup.connections
    counted.update(first, idle=True)  # it keeps its place
    counted.update(second, idle=False)
    assert counted.close_longest_idle()
    assert setup.closed == [True, False, False]
    counted.update(second, idle=True)
    assert counted.close_longest_idle()
    assert setup.closed == [True, False, True]
    assert len(counted) == 1


def test_a_connection_that_is_idle_for_a_moment_is_not_closed(setup):
    setup.now = LEAST_IDLE_S + 0.05
    assert setup.counted.close_longest_idle()
    assert not setup.counted.close_longest_idle()
    assert setup.closed == [True, False, False]


def test_a_connection_with_bytes_left_to_send_is_not_closed(setup):
    setup.connections[0].unsent = 5
    setup.connections[2].unsent = 5
    assert setup.counted.close_longest_idle()
    assert setup.closed == [False, True, False]
    assert not setup.counted.close_longest_idle()


def test_a_connection_that_no_longer_counts_does_not_give_way(setup):
    for connection in setup.connections:
        setup.counted.discard(connection)
        setup.counted.update(connection, idle=True)
    setup.now += 100
    assert len(setup.counted) == 0
    assert not setup.counted.close_longest_idle()


def test_of_too_many_connections_beyond_the_limit_the_oldest_is_aborted(setup):
    counted, beyond = setup.counted, [Connection() for _ in range(3)]
    for connection in beyond:
        counted.add_beyond(connection, most=2)
    assert [connection.closed for connection in beyond] == [True, False, False]
    assert (len(counted), setup.closed) == (3, [False] * 3)
    counted.discard(beyond[1])
    counted.add_beyond(setup.connections[0], most=2)  # it is only read until it closes
    assert [connection.closed for connection in beyond] == [True, False, False]
    assert len(counted) == 2
