"""Bodies as they come off a real socket: whole, in pieces, and faster than they are read."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from app import protocol
from app.protocol import Protocol

pytestmark = pytest.mark.anyio


class Reader:
    """An app that keeps the messages of a body, from when its gate opens on."""

    def __init__(self):
        self.messages = []
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.asked.set()
        await self.gate.wait()
        more, size = True, 0
        while more:
            self.messages.append(await receive())
            more = self.messages[-1].get("more_body")
            size += len(self.messages[-1].get("body", b""))
        size = str(size).encode()
        headers = [(b"content-length", str(len(size)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": size})


@asynccontextmanager
async def connected(app):
    """A stream to the app, and the protocol at its other end."""
    config = uvicorn.Config(app, http=Protocol, log_config=None)
    config.load()
    protocols = []

    def make():
        protocols.append(Protocol(config=config, server_state=ServerState(), app_state={}))
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer, protocols
        finally:
            writer.close()
            await writer.wait_closed()


def head(*lines):
    return "\r\n".join(["POST / HTTP/1.1", "host: test", *lines, "", ""]).encode()


async def until(is_so):
    """Let the loop have its turns."""
    while not is_so():  # noqa: ASYNC110  # nothing tells when
        await asyncio.sleep(0)


async def answered(reader):
    """The size that the app says it was sent."""
    said = await reader.readuntil(b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    return int(await reader.readexactly(int(said.lower().split(b"content-length: ")[1].split()[0])))


async def test_a_body_that_arrives_in_one_piece_is_passed_on_as_that_piece():
    app = Reader()
    app.gate.set()
    pieces = []

    class Watched(Protocol):
        def on_body(self, body):
            pieces.append(body)
            super().on_body(body)

    config = uvicorn.Config(app, http=Watched, log_config=None)
    config.load()
    watched = Watched(config=config, server_state=ServerState(), app_state={})
    server = await asyncio.get_running_loop().create_server(lambda: watched, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(head("content-length: 5") + b"photo")
        assert await answered(reader) == 5
        writer.close()
        await writer.wait_closed()
    assert app.messages[0]["body"] is pieces[0]


async def test_pieces_that_nobody_has_read_yet_are_joined_in_order():
    app = Reader()
    async with connected(app) as (reader, writer, protocols):
        writer.write(head("transfer-encoding: chunked"))
        await app.asked.wait()
        writer.write(b"".join(b"1\r\n%c\r\n" % letter for letter in b"photograph") + b"0\r\n\r\n")
        await until(lambda: not protocols[0].cycle.more_body)
        app.gate.set()
        assert await answered(reader) == 10
    assert [message["body"] for message in app.messages] == [b"photograph"]
    assert isinstance(app.messages[0]["body"], bytes)


async def test_two_requests_on_a_connection_keep_their_bodies_apart():
    app = Reader()
    app.gate.set()
    async with connected(app) as (reader, writer, _):
        for size in (3, 200_000, 7):
            writer.write(head(f"content-length: {size}") + bytes(size))
            assert await answered(reader) == size


async def test_a_sender_who_is_not_read_is_made_to_wait(monkeypatch):
    monkeypatch.setattr(protocol, "MOST_UNREAD", 1000)
    app = Reader()
    async with connected(app) as (reader, writer, protocols):
        writer.write(head("content-length: 3000"))
        await app.asked.wait()
        writer.write(bytes(1500))
        await until(lambda: protocols[0].flow.read_paused)
        writer.write(bytes(1500))
        app.gate.set()
        assert await answered(reader) == 3000


async def test_a_body_without_an_end_is_no_answer():
    app = Reader()
    app.gate.set()
    async with connected(app) as (reader, writer, protocols):
        writer.write(head("content-length: 10") + b"half")
        await until(lambda: app.messages)
        writer.close()
        assert await reader.read() == b""
        await until(lambda: protocols[0].cycle.disconnected)
    assert app.messages[0]["body"] == b"half"
