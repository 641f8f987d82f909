"""Requests over a real socket: in pieces, pipelined, invalid, refused early."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.api.middleware import RequestMiddleware
from app.core.errors import NotFound
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics
from app.server import protocol
from app.server.counted import CountedConnections
from app.server.limits import ConnectionLimits, Phase
from app.server.protocol import HttpProtocol
from app.server.timeouts import TimeoutTimer

pytestmark = pytest.mark.anyio

LIMITS = ConnectionLimits(max_header_bytes=2000, max_headers=20, max_pipelined=4)


class Reader:
    """An app that reads and keeps the messages of a body once its gate is open."""

    def __init__(self):
        self.messages = []
        self.scopes = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        self.called.set()
        try:
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
        finally:
            self.ended.set()


async def refuse(scope, receive, send):
    """An app that responds before it has read the body."""
    raise NotFound("not found")


@asynccontextmanager
async def connected(app, limits=LIMITS, kind=HttpProtocol, timer=None):
    """A stream to the app behind its middleware, and the protocols of all connections."""
    config = uvicorn.Config(
        RequestMiddleware(app, Metrics(), Shutdown(0, 0)),
        log_config=None,
        ws="none",
        access_log=False,
    )
    config.load()
    protocols, state = [], ServerState()
    shared = {"timer": timer or TimeoutTimer(0.01), "counted": CountedConnections()}
    make = partial(kind, config, state, {}, limits=limits, **shared)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocols.append(make()) or protocols[-1], "::1", 0)
    async with server:
        address = server.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(*address)
        try:
            yield reader, writer, protocols
        finally:
            writer.close()
            await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])
            await until(lambda: not state.connections)


def head(*lines, method="POST", version="1.1"):
    return "\r\n".join([f"{method} /here HTTP/{version}", "host: test", *lines, "", ""]).encode()


async def until(condition):
    """Let the event loop run until the condition holds."""
    while not condition():  # noqa: ASYNC110  # there is no event for the condition
        await asyncio.sleep(0)


async def read_response(reader):
    """Status, headers and content of the next response."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split()[1]), headers, content


async def size_read(reader):
    """The size of the body that the app has read, from its response."""
    status, _, content = await read_response(reader)
    assert status == 200
    return int(content)


async def read_error(reader):
    """Status and code of an error response after which the connection is closed."""
    status, headers, content = await read_response(reader)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    problem = json.loads(content)
    assert problem["request_id"] == headers["x-request-id"]
    assert await reader.read() == b""
    return status, problem["code"]


async def test_a_body_that_arrives_in_one_piece_is_not_copied():
    app = Reader()
    pieces = []

    class Recording(HttpProtocol):
        def on_body(self, body):
            pieces.append(body)
            super().on_body(body)

    async with connected(app, kind=Recording) as (reader, writer, _):
        writer.write(head("content-length: 5") + b"photo")
        assert await size_read(reader) == 5
    assert app.messages[0]["body"] is pieces[0]


async def test_unread_pieces_are_joined_in_order():
    app = Reader()
    app.gate.clear()
    async with connected(app) as (reader, writer, protocols):
        writer.write(head("transfer-encoding: chunked"))
        await app.called.wait()
        writer.write(b"".join(b"1\r\n%c\r\n" % letter for letter in b"photograph") + b"0\r\n\r\n")
        await until(lambda: not protocols[0].cycle.more_body)
        app.gate.set()
        assert await size_read(reader) == 10
    assert [message["body"] for message in app.messages] == [b"photograph"]
    assert isinstance(app.messages[0]["body"], bytes)


async def test_a_response_to_head_has_no_body():
    async with connected(Reader()) as (reader, writer, _):
        writer.write(head(method="HEAD"))
        lines = await reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 1\r\n" in lines


async def test_two_requests_on_a_connection_keep_their_bodies_apart():
    async with connected(Reader()) as (reader, writer, _):
        for size in (3, 200_000, 7):
            writer.write(head(f"content-length: {size}") + bytes(size))
            assert await size_read(reader) == size


async def test_reading_pauses_while_the_app_does_not_read(monkeypatch):
    monkeypatch.setattr(protocol, "MAX_UNREAD_BYTES", 1000)
    app = Reader()
    app.gate.clear()
    async with connected(app) as (reader, writer, protocols):
        writer.write(head("content-length: 3000"))
        await app.called.wait()
        writer.write(bytes(1500))
        await until(lambda: protocols[0].blocked_by_server)
        writer.write(bytes(1500))
        app.gate.set()
        assert await size_read(reader) == 3000


async def test_an_incomplete_body_gets_no_response():
    app = Reader()
    async with connected(app) as (reader, writer, protocols):
        writer.write(head("content-length: 10") + b"half")
        await until(lambda: app.messages)
        writer.close()
        assert await reader.read() == b""
        await until(lambda: protocols[0].cycle.disconnected)
    assert app.messages[0]["body"] == b"half"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00", 400, "malformed_request"),
        (head("content-length: 3", "transfer-encoding: chunked"), 400, "malformed_request"),
        (head("content-length: 3", "content-length: 3"), 400, "malformed_request"),
        (head("content-length: -3"), 400, "malformed_request"),
        (head("content-length: 99999999999999999999999"), 400, "malformed_request"),
        (head("transfer-encoding: gzip, chunked"), 400, "malformed_request"),
        (head("transfer-encoding: gzip"), 400, "malformed_request"),
        (head("x: folded", " line"), 400, "malformed_request"),
        (head("x : space"), 400, "malformed_request"),
        (head(version="2.0"), 400, "malformed_request"),
        (b"CONNECT here:1 HTTP/1.1\r\nhost: test\r\n\r\n", 405, "method_not_allowed"),
        (b"GET / HTTP/1.1\nhost: test\n\n", 400, "malformed_request"),
        (head("x: " + "x" * 2000), 431, "headers_too_large"),
        (head(*["x: y"] * 20), 431, "headers_too_large"),
        (b"GET /" + b"x" * 2000, 431, "headers_too_large"),
        (b"\r\n" * 1001, 431, "headers_too_large"),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else None,
)
async def test_an_invalid_request_gets_a_problem_response(sent, status, code):
    app = Reader()
    async with connected(app) as (reader, writer, _):
        writer.write(sent)
        assert await read_error(reader) == (status, code)
    assert not app.messages


async def test_headers_in_small_pieces_are_limited():
    async with connected(Reader()) as (reader, writer, protocols):
        writer.write(b"GET / HTTP/1.1\r\nx: ")
        for sent in range(100, 2200, 100):
            writer.write(b"x" * 100)
            await until(
                lambda sent=sent: protocols and protocols[0]._framing_bytes >= min(sent, 2000)
            )
        assert await read_error(reader) == (431, "headers_too_large")


async def test_input_after_a_refusal_is_read_one_piece_in_each_turn_of_the_event_loop():
    async with connected(Reader()) as (reader, writer, protocols):
        writer.write(b"nonsense\r\n\r\n")
        assert await read_error(reader) == (400, "malformed_request")
        protocol = protocols[0]
        assert protocol.phase is Phase.LINGER
        protocol.data_received(bytes(1000))
        assert protocol.flow.read_paused
        await until(lambda: not protocol.flow.read_paused)
        protocol.data_received(bytes(1000))
        protocol.transport.abort()
        await asyncio.sleep(0)


async def test_headers_after_a_long_body_are_counted_from_their_own_start():
    async with connected(Reader()) as (reader, writer, protocols):
        second = head("content-length: 1")
        writer.write(head("content-length: 50000") + bytes(50_000) + second[:30])
        assert await size_read(reader) == 50_000
        await until(lambda: protocols[0].phase is Phase.HEADERS)
        writer.write(second[30:] + b"x")
        assert await size_read(reader) == 1


async def test_the_largest_allowed_number_of_headers_is_accepted():
    app = Reader()
    async with connected(app) as (reader, writer, _):
        writer.write(head(*["X-Y: z"] * 18, "content-length: 0"))
        assert await size_read(reader) == 0
    assert len(app.scopes[0]["headers"]) == 20
    assert (b"x-y", b"z") in app.scopes[0]["headers"]


@pytest.mark.parametrize(
    ("rest", "status", "code"),
    [
        ([b"zz\r\n"], 400, "malformed_request"),
        ([b"-1\r\n"], 400, "malformed_request"),
        ([b"fffffffffffffffff\r\n"], 400, "malformed_request"),
        ([b"1\r\nxy"], 400, "malformed_request"),
        ([b"1;" + b"x" * 1500, b"x" * 1500], 431, "headers_too_large"),
        ([b"0\r\nx: " + b"y" * 1500, b"y" * 1500], 431, "headers_too_large"),
        ([b"0\r\nx: " + b"y" * 2000 + b"\r\n\r\n"], 431, "headers_too_large"),
    ],
    ids=["size", "negative", "overflow", "end", "extension", "trailer", "trailers at once"],
)
async def test_invalid_chunks_raise_where_the_app_reads_the_body(rest, status, code):
    app = Reader()
    async with connected(app) as (reader, writer, _):
        writer.write(head("transfer-encoding: chunked") + b"3\r\nabc\r\n")
        await until(lambda: app.messages)
        for piece in rest:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)  # so that two pieces arrive
        assert await read_error(reader) == (status, code)
    assert app.messages == [{"type": "http.request", "body": b"abc", "more_body": True}]


async def test_trailers_are_not_added_to_the_headers():
    app = Reader()
    async with connected(app) as (reader, writer, _):
        writer.write(
            head("transfer-encoding: chunked") + b"1;a=b\r\nx\r\n0\r\nx-api-key: y\r\n\r\n"
        )
        assert await size_read(reader) == 1
        writer.write(head("content-length: 0"))
        assert await size_read(reader) == 0
    assert b"x-api-key" not in {name for scope in app.scopes for name, _ in scope["headers"]}


async def test_bytes_after_the_declared_length_are_refused_after_the_response():
    app = Reader()
    app.gate.clear()
    async with connected(app) as (reader, writer, _):
        writer.write(head("content-length: 3") + b"abc\x00\x01")
        await app.called.wait()
        app.gate.set()
        assert await size_read(reader) == 3
        assert await read_error(reader) == (400, "malformed_request")


async def test_pipelined_requests_are_answered_in_order():
    app = Reader()
    app.gate.clear()
    async with connected(app) as (reader, writer, _):
        writer.write(b"".join(head(f"content-length: {n}") + bytes(n) for n in (1, 2, 3)))
        await app.called.wait()
        app.gate.set()
        assert [await size_read(reader) for _ in range(3)] == [1, 2, 3]


async def test_too_many_pipelined_requests_are_refused_after_the_others():
    app = Reader()
    app.gate.clear()
    async with connected(app) as (reader, writer, _):
        writer.write(head("content-length: 0") * 9)
        await app.called.wait()
        app.gate.set()
        assert [await size_read(reader) for _ in range(5)] == [0] * 5
        assert await read_error(reader) == (400, "malformed_request")


async def test_a_head_that_is_late_behind_a_running_request_is_refused_once():
    app = Reader()
    app.gate.clear()
    async with connected(app, ConnectionLimits(header_timeout_s=0.02)) as (
        reader,
        writer,
        protocols,
    ):
        writer.write(head("content-length: 0") + b"POST /here HTTP/1.1\r\nhost: ")
        await app.called.wait()
        checks = []
        check = protocols[0].check_timeouts
        protocols[0].check_timeouts = lambda *times: checks.append(times) or check(*times)
        await until(lambda: protocols[0].cycle is not protocols[0]._running)  # it is refused
        seen = len(checks)
        await until(lambda: len(checks) > seen + 2)
        app.gate.set()
        assert await size_read(reader) == 0
        assert await read_error(reader) == (408, "upload_too_slow")


async def test_the_running_request_learns_of_a_lost_connection():
    app = Reader()
    async with connected(app) as (_, writer, protocols):
        writer.write(head("content-length: 5") + b"ab")
        await app.called.wait()
        writer.write(b"cd")
        await until(lambda: len(app.messages) == 2)
        running = protocols[0].cycle
        protocols[0].start(dict(running.scope), keep_alive=True)  # another request is pipelined
        protocols[0].transport.abort()
        await app.ended.wait()
    assert app.messages[-1] == {"type": "http.disconnect"}
    assert protocols[0].cycle is not running


@pytest.mark.parametrize(
    ("headers", "body"),
    [(["content-length: 3"], b"abc"), (["transfer-encoding: chunked"], b"3\r\nabc\r\n0\r\n\r\n")],
)
async def test_an_upgrade_header_is_ignored(headers, body):
    app = Reader()
    async with connected(app) as (reader, writer, _):
        upgrade = ["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AA"]
        writer.write((head(*upgrade, *headers) + body) * 2)
        assert [await size_read(reader) for _ in range(2)] == [3, 3]
    assert b"upgrade" not in dict(app.scopes[0]["headers"])
    assert app.scopes[0]["path"] == "/here"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_the_connection_is_closed_if_the_client_asks_for_it(version):
    async with connected(Reader()) as (reader, writer, _):
        lines = ["connection: close"] if version == "1.1" else []
        writer.write(head("content-length: 1", *lines, version=version) + b"x")
        assert (await read_response(reader))[1]["connection"] == "close"
        assert await reader.read() == b""


async def test_100_continue_is_sent_when_the_app_reads():
    async with connected(Reader()) as (reader, writer, _):
        writer.write(head("content-length: 2", "expect: 100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert await size_read(reader) == 2


async def test_an_error_response_replaces_100_continue():
    async with connected(refuse) as (reader, writer, _):
        writer.write(head("content-length: 2", "expect: 100-continue"))
        assert await read_error(reader) == (404, "not_found")


async def test_an_idle_connection_does_not_hold_the_body_of_an_early_response():
    async with connected(refuse) as (reader, writer, protocols):
        writer.write(head("content-length: 1000") + bytes(1000))
        assert (await read_response(reader))[0] == 404
        assert len(protocols[0].cycle.body) == 0


async def test_an_early_response_keeps_the_connection_if_the_rest_of_the_body_is_small():
    async with connected(refuse) as (reader, writer, _):
        for _ in range(2):
            writer.write(head("content-length: 1000000") + bytes(10))
            status, headers, _ = await read_response(reader)
            assert status == 404
            assert "connection" not in headers
            writer.write(bytes(999_990))


@pytest.mark.parametrize("length", ["content-length: 9000000", "transfer-encoding: chunked"])
async def test_an_early_response_closes_the_connection_if_the_rest_of_the_body_may_be_large(length):
    async with connected(refuse) as (reader, writer, _):
        writer.write(head(length))
        assert await read_error(reader) == (404, "not_found")


async def test_after_an_early_response_the_whole_body_is_read_so_that_the_client_can_send_it():
    async with connected(refuse) as (reader, writer, _):
        writer.write(head("content-length: 20000000"))
        writer.write(bytes(20_000_000))
        await writer.drain()  # a reset would end it
        assert await read_error(reader) == (404, "not_found")


async def test_an_invalid_body_after_an_early_response_closes_the_connection():
    async with connected(refuse) as (reader, writer, protocols):
        writer.write(head("content-length: 1000") + bytes(10))
        assert (await read_response(reader))[0] == 404
        protocols[0].refuse(NotFound("anything"))
        assert await reader.read() == b""


@pytest.fixture
async def full():
    """A service with a busy connection and no room for another, and a function that connects."""
    limits = ConnectionLimits(max_connections=1, max_refused=2, always_served=frozenset(["/probe"]))
    app = Reader()
    async with connected(app, limits) as (reader, writer, protocols), AsyncExitStack() as stack:
        writer.write(head("content-length: 1"))
        await app.called.wait()

        async def connect():
            address = writer.get_extra_info("peername")[:2]
            more_reader, more_writer = await asyncio.open_connection(*address)
            stack.callback(more_writer.close)
            return more_reader, more_writer

        yield connect, protocols
        writer.write(b"x")
        assert await size_read(reader) == 1
        await stack.aclose()


async def test_a_request_on_a_connection_beyond_the_limit_gets_a_503(full):
    connect, protocols = full
    reader, writer = await connect()
    writer.write(head("content-length: 0"))
    status, headers, content = await read_response(reader)
    assert (status, json.loads(content)["code"]) == (503, "overloaded")
    assert (headers["retry-after"], headers["connection"]) == ("1", "close")
    assert await reader.read() == b""
    writer.close()
    await until(lambda: len(protocols[0].connections) == 1)


async def test_a_probe_is_served_on_a_connection_beyond_the_limit(full):
    connect, _ = full
    reader, writer = await connect()
    writer.write(b"POST /probe HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n")
    status, headers, _ = await read_response(reader)
    assert (status, headers["connection"]) == (200, "close")
    assert await reader.read() == b""


async def test_of_connections_far_beyond_the_limit_the_oldest_is_dropped(full):
    connect, protocols = full
    oldest, _ = await connect()
    await connect()
    await until(lambda: len(protocols) == 3)
    reader, writer = await connect()
    with suppress(ConnectionError):
        assert await oldest.read() == b""
    writer.write(head("content-length: 0").replace(b"/here", b"/probe"))
    assert await size_read(reader) == 0


async def test_the_longest_idle_connection_gives_way_to_a_new_one(monkeypatch):
    monkeypatch.setattr("app.server.counted.LEAST_IDLE_S", 0.0)
    limits = ConnectionLimits(max_connections=3)
    app = Reader()
    async with connected(app, limits) as (oldest, writer, protocols), AsyncExitStack() as stack:
        streams = [(oldest, writer)]
        for _ in range(2):
            address = writer.get_extra_info("peername")[:2]
            streams.append(await asyncio.open_connection(*address))
            stack.callback(streams[-1][1].close)
        await until(lambda: len(protocols) == 3)
        streams[0][1].write(head("content-length: 0"))  # so the second one is idle for longest
        assert await size_read(oldest) == 0
        reader, newest = await asyncio.open_connection(*address)
        stack.callback(newest.close)
        assert await streams[1][0].read() == b""
        for each, more in ((oldest, writer), streams[2], (reader, newest)):
            more.write(head("content-length: 0"))
            assert await size_read(each) == 0


async def test_a_body_in_tiny_chunks_is_refused():
    app = Reader()
    async with connected(app) as (reader, writer, _):
        writer.write(head("transfer-encoding: chunked") + b"1\r\nx\r\n" * 65)
        assert await read_error(reader) == (400, "malformed_request")


async def test_a_body_may_have_some_small_chunks_and_any_number_of_larger_ones():
    app = Reader()
    pieces = [b"1\r\nx\r\n"] * 50 + [b"100\r\n" + bytes(256) + b"\r\n"] * 200
    for body in (pieces, pieces[::-1]):
        async with connected(app) as (reader, writer, _):
            writer.write(head("transfer-encoding: chunked") + b"".join(body) + b"0\r\n\r\n")
            assert await size_read(reader) == 50 + 200 * 256
