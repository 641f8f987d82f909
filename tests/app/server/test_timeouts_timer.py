"""The timer of all connections."""

import asyncio
import threading
import time

import pytest

from app.server.timeouts import MANY_UNSENT, TimeoutTimer, Unsent

pytestmark = pytest.mark.anyio


class Connection:
    """Records its checks, and sets an event after `count` of them."""

    def __init__(self, count):
        self.times = []
        self.elapsed_s = []
        self.checked = asyncio.Event()
        self.unsent = Unsent(0, 0.0)
        self.aborted = None
        self._count = count

    def check_timeouts(self, now, elapsed_s):
        self.times.append(now)
        self.elapsed_s.append(elapsed_s)
        if len(self.times) == self._count:
            self.checked.set()
        return self.unsent

    def abort(self, reason):
        self.aborted = reason


async def test_added_connections_are_checked_again_and_again():
    timer, connections = TimeoutTimer(0.001), [Connection(3), Connection(3)]
    for connection in connections:
        timer.add(connection)
    for connection in connections:
        await connection.checked.wait()
        timer.discard(connection)
    assert (
        connections[0].times[:3]
        == connections[1].times[:3]
        == sorted(set(connections[0].times))[:3]
    )


async def test_discarded_connections_are_not_checked_and_without_any_the_timer_stops():
    timer, first, second = TimeoutTimer(0.001), Connection(1), Connection(1)
    timer.add(first)
    await first.checked.wait()
    timer.discard(first)
    await asyncio.sleep(0.005)
    assert len(first.times) == 1
    assert timer._timer is None
    timer.add(second)  # the timer starts again
    await second.checked.wait()
    assert len(first.times) == 1


async def test_a_connection_may_be_discarded_by_its_own_check():
    timer = TimeoutTimer(0.001)

    class Closing(Connection):
        def check_timeouts(self, now, elapsed_s):
            timer.discard(self)
            return super().check_timeouts(now, elapsed_s)

    connections = [Closing(1) for _ in range(5)]
    for connection in connections:
        timer.add(connection)
    await asyncio.gather(*(connection.checked.wait() for connection in connections))
    assert timer._timer is None


async def test_a_delay_of_the_event_loop_does_not_count():
    timer, connection = TimeoutTimer(0.01), Connection(2)
    timer.add(connection)
    time.sleep(0.2)  # noqa: ASYNC251  # blocks the event loop
    await connection.checked.wait()
    assert connection.elapsed_s[0] == pytest.approx(0.02)


async def test_above_the_limit_of_unsent_bytes_the_longest_waiting_connections_are_closed():
    timer, connections = (
        TimeoutTimer(0.001, max_unsent_bytes=100),
        [Connection(1) for _ in range(5)],
    )
    unsent = [Unsent(50, 4.0), Unsent(0, 1.0), Unsent(60, 2.0), Unsent(40, 3.0), Unsent(30, 5.0)]
    for connection, each in zip(connections, unsent, strict=True):
        connection.unsent = each
        timer.add(connection)
    for connection in connections:
        await connection.checked.wait()
        timer.discard(connection)
    closed = [connection.aborted for connection in connections]
    assert closed == [None, None, "unsent_bytes", "unsent_bytes", None]


async def test_within_the_limit_of_unsent_bytes_no_connection_is_closed():
    timer, connection = TimeoutTimer(0.001, max_unsent_bytes=100), Connection(1)
    connection.unsent = Unsent(100, 0.0)
    timer.add(connection)
    await connection.checked.wait()
    timer.discard(connection)
    assert connection.aborted is None


@pytest.mark.parametrize(("size", "released"), [(MANY_UNSENT, 1), (MANY_UNSENT - 1, 0)])
async def test_the_memory_of_large_responses_is_released_once_they_are_gone(size, released):
    calls, done = [], threading.Event()

    def release():
        calls.append(threading.current_thread())
        done.set()

    timer, connection = TimeoutTimer(0.001, release=release), Connection(1)
    connection.unsent = Unsent(size, 0.0)
    timer.add(connection)
    await connection.checked.wait()
    assert calls == []
    connection.unsent = Unsent(0, 0.0)
    other = Connection(3)
    timer.add(other)
    await other.checked.wait()
    timer.discard(connection)
    timer.discard(other)
    if released:
        await asyncio.to_thread(done.wait, 30)
    assert len(calls) == released
    assert threading.current_thread() not in calls
