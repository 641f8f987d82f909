"""Accepting from a shared socket: one by one, and yielding to other processes."""

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
    """Sends the name of the acceptor that accepted the connection."""

    def __init__(self, name, accepted):
        self.name, self.accepted = name, accepted

    def connection_made(self, transport):
        self.accepted.append(self.name)
        transport.write(self.name)
        transport.close()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@asynccontextmanager
async def accepting(listener, name, accepted, should_yield=lambda: False):
    acceptor = SharedAcceptor(listener, lambda: Greeter(name, accepted), should_yield)
    try:
        yield acceptor
    finally:
        acceptor.close()
        await acceptor.wait_closed()


async def connect(listener):
    """Connect, and return the name that the acceptor sends."""
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    name = await reader.read()
    writer.close()
    await writer.wait_closed()
    return name


async def test_an_acceptor_accepts_connections(listener):
    async with accepting(listener, b"a", []):
        assert [await connect(listener) for _ in range(3)] == [b"a"] * 3


async def test_an_acceptor_that_yields_leaves_connections_to_the_other(listener):
    accepted = []
    async with (
        accepting(listener, b"a", accepted, lambda: True),
        accepting(listener, b"b", accepted, lambda: False),
    ):
        await asyncio.gather(*(connect(listener) for _ in range(8)))
    assert accepted.count(b"b") == 8


async def test_an_acceptor_that_yields_accepts_what_no_other_accepts(listener):
    calls = []
    async with accepting(listener, b"a", [], lambda: calls.append(1) or True):
        for count in (1, 2):
            assert await connect(listener) == b"a"
            assert len(calls) == count * accept.MAX_YIELDS


async def test_connections_to_a_closed_acceptor_wait_for_another(listener):
    async with accepting(listener, b"a", []):
        pass
    waiting = asyncio.create_task(connect(listener))
    async with accepting(listener, b"b", []):
        assert await waiting == b"b"


async def test_an_acceptor_that_is_closed_while_it_yields_stays_closed(listener):
    accepted, yielded = [], asyncio.Event()

    def should_yield():
        yielded.set()
        return True

    async with accepting(listener, b"a", accepted, should_yield) as acceptor:
        waiting = asyncio.create_task(connect(listener))
        await yielded.wait()
        acceptor.close()
    async with accepting(listener, b"b", accepted):
        assert await waiting == b"b"
    assert accepted == [b"b"]


class Exhausted:
    """A listening socket whose first accepts fail."""

    def __init__(self, listener, failures):
        self._listener, self._failures = listener, failures

    def accept(self):
        if self._failures:
            raise OSError(self._failures.pop(), "failed")
        return self._listener.accept()

    def setblocking(self, flag):
        self._listener.setblocking(flag)

    def setsockopt(self, *option):
        self._listener.setsockopt(*option)

    def fileno(self):
        return self._listener.fileno()


@pytest.mark.parametrize(
    ("number", "logged"), [(errno.EMFILE, True), (errno.ECONNABORTED, False), (errno.EAGAIN, False)]
)
async def test_a_failed_accept_is_tried_again(listener, monkeypatch, caplog, number, logged):
    monkeypatch.setattr(accept, "PAUSE_S", 0.001)
    async with accepting(Exhausted(listener, [number]), b"a", []):
        assert await connect(listener) == b"a"
    assert ("cannot accept a connection" in caplog.text) is logged


async def test_the_backlog_is_accepted_and_new_connections_are_dropped(listener):
    accepted = []
    early = [await asyncio.open_connection(*listener.getsockname()) for _ in range(5)]
    await accept.accept_backlog(listener, lambda: Greeter(b"a", accepted))
    assert [await reader.read() for reader, _ in early] == [b"a"] * 5
    with socket.socket() as late:
        late.setblocking(False)
        late.connect_ex(listener.getsockname())
        if sys.platform == "linux":  # the kernel drops the first packet
            with pytest.raises(BlockingIOError):
                listener.accept()
    for _, writer in early:
        writer.close()


@pytest.mark.parametrize(
    ("number", "accepted", "logged"), [(errno.EMFILE, 0, True), (errno.ECONNABORTED, 1, False)]
)
async def test_a_failed_accept_of_the_backlog_does_not_stop_the_shutdown(
    listener, caplog, number, accepted, logged
):
    names = []
    _, writer = await asyncio.open_connection(*listener.getsockname())
    await accept.accept_backlog(Exhausted(listener, [number]), lambda: Greeter(b"a", names))
    assert len(names) == accepted
    assert ("cannot accept the last connections" in caplog.text) is logged
    writer.close()


async def test_an_empty_backlog_is_accepted(listener):
    await accept.accept_backlog(listener, lambda: Greeter(b"a", []))
