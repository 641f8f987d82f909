"""A socket that several doors share: one by one, and everyone gets some."""

import asyncio
import errno
import socket
import sys
from contextlib import asynccontextmanager

import pytest

from app.server import accept
from app.server.accept import SharedAcceptor

pytestmark = pytest.mark.anyio


class Greeter(asyncio.Protocol):
    """Says who took the connection."""

    def __init__(self, name, taken):
        self.name, self.taken = name, taken

    def connection_made(self, transport):
        self.taken.append(self.name)
        transport.write(self.name)
        transport.close()


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@asynccontextmanager
async def opened(listening, name, taken, yields=lambda: False):
    door = SharedAcceptor(listening, lambda: Greeter(name, taken), yields)
    try:
        yield door
    finally:
        door.close()
        await door.wait_closed()


async def knock(listening):
    """Who answers."""
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    name = await reader.read()
    writer.close()
    await writer.wait_closed()
    return name


async def test_a_door_takes_connections(listening):
    async with opened(listening, b"a", []):
        assert [await knock(listening) for _ in range(3)] == [b"a"] * 3


async def test_who_should_yield_leaves_connections_to_the_other(listening):
    taken = []
    async with (
        opened(listening, b"a", taken, lambda: True),
        opened(listening, b"b", taken, lambda: False),
    ):
        await asyncio.gather(*(knock(listening) for _ in range(8)))
    assert taken.count(b"b") == 8


async def test_who_should_yield_takes_what_nobody_else_wants(listening):
    asked = []
    async with opened(listening, b"a", [], lambda: asked.append(1) or True):
        for count in (1, 2):
            assert await knock(listening) == b"a"
            assert len(asked) == count * accept.MOST_YIELDS


async def test_connections_at_a_closed_door_wait_for_another(listening):
    async with opened(listening, b"a", []):
        pass
    waiting = asyncio.create_task(knock(listening))
    async with opened(listening, b"b", []):
        assert await waiting == b"b"


async def test_a_door_that_closes_while_it_yields_stays_closed(listening):
    taken, asked = [], asyncio.Event()

    def yields():
        asked.set()
        return True

    async with opened(listening, b"a", taken, yields) as door:
        waiting = asyncio.create_task(knock(listening))
        await asked.wait()
        door.close()
    async with opened(listening, b"b", taken):
        assert await waiting == b"b"
    assert taken == [b"b"]


class Exhausted:
    """A listening socket that at first has no file descriptor to give."""

    def __init__(self, listening, failures):
        self._listening, self._failures = listening, failures

    def accept(self):
        if self._failures:
            raise OSError(self._failures.pop(), "no more")
        return self._listening.accept()

    def setblocking(self, flag):
        self._listening.setblocking(flag)

    def fileno(self):
        return self._listening.fileno()


@pytest.mark.parametrize(
    ("number", "logged"), [(errno.EMFILE, True), (errno.ECONNABORTED, False), (errno.EAGAIN, False)]
)
async def test_a_connection_that_cannot_be_taken_is_tried_again(
    listening, monkeypatch, caplog, number, logged
):
    monkeypatch.setattr(accept, "PAUSE_S", 0.001)
    async with opened(Exhausted(listening, [number]), b"a", []):
        assert await knock(listening) == b"a"
    assert ("cannot take a connection" in caplog.text) is logged


async def test_the_last_are_taken_and_nobody_follows(listening):
    taken = []
    early = [await asyncio.open_connection(*listening.getsockname()) for _ in range(5)]
    await accept.accept_backlog(listening, lambda: Greeter(b"a", taken))
    assert [await reader.read() for reader, _ in early] == [b"a"] * 5
    with socket.socket() as late:
        late.setblocking(False)
        late.connect_ex(listening.getsockname())
        if sys.platform == "linux":  # the kernel lets nobody begin
            with pytest.raises(BlockingIOError):
                listening.accept()
    for _, writer in early:
        writer.close()


async def test_a_socket_without_anybody_is_done_with(listening):
    await accept.accept_backlog(listening, lambda: Greeter(b"a", []))
