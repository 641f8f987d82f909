"""Shutdown of a server: accepted requests are answered, and slow clients do not delay it."""

import asyncio
import logging
import signal
import socket
import time
from contextlib import asynccontextmanager

import pytest
import uvicorn

from app.api.middleware import RequestMiddleware
from app.cli.run import protocol
from app.core.process import DRAIN_SIGNAL
from app.core.settings import Settings
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics
from app.server.server import QUIET_S, GracefulServer

pytestmark = pytest.mark.anyio
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LARGE = 2**26  # bytes, more than the system buffers for a client that does not read


class Service:
    """A running server whose responses wait for a gate, and its clock."""

    def __init__(self, listener, lame_duck_s, timeout_s):
        self.now = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.received = asyncio.Event()
        self.body = b"response"
        self.address = listener.getsockname()
        self.shutdown = Shutdown(lame_duck_s, timeout_s, lambda: self.now)
        self.shutdown.opened = True
        app = RequestMiddleware(self.app, Metrics(), self.shutdown)
        config = uvicorn.Config(app, log_config=None, http=protocol(Settings()), lifespan="on")
        self.server = GracefulServer(config, listener, self.shutdown)
        self.running = asyncio.create_task(self.run())

    async def run(self):
        with self.server.capture_signals():
            await self.server._serve()

    async def app(self, scope, receive, send):
        if scope["type"] == "lifespan":
            for part in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{part}.complete"})
            return
        self.received.set()
        await self.gate.wait()
        length = str(len(self.body)).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    async def ended(self):
        await asyncio.wait_for(self.running, 30)

    @asynccontextmanager
    async def connected(self, sent=b""):
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(sent)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


@pytest.fixture
async def start():
    """Start a server; it is stopped after the test if it still runs."""
    services = []

    async def starting(lame_duck_s=5.0, timeout_s=12.0):
        service = Service(socket.create_server(("127.0.0.1", 0)), lame_duck_s, timeout_s)
        services.append(service)
        await until(lambda: service.server.started)
        return service

    yield starting
    for service in services:
        service.gate.set()
        service.server.should_exit = True
        await service.ended()


async def read_response(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    return head, await reader.readexactly(length)


async def refused(service):
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*service.address)


async def until(condition):
    while not condition():  # noqa: ASYNC110  # there is no event for the condition
        await asyncio.sleep(0.001)


async def test_the_first_signal_shuts_down_in_order_and_is_not_raised_again(start):
    service = await start()
    signal.raise_signal(signal.SIGTERM)
    await until(lambda: service.shutdown.begun)
    service.now = 5.0
    await service.ended()
    await refused(service)


async def test_a_lame_duck_answers_on_old_and_new_connections_and_closes_them(start):
    service = await start()
    async with service.connected(GET) as (reader, writer):
        assert "connection: close" not in (await read_response(reader))[0]
        service.server.handle_exit(signal.SIGTERM, None)
        await until(lambda: service.shutdown.begun)
        service.now = 4.9
        writer.write(GET)
        assert "connection: close" in (await read_response(reader))[0]
        assert await reader.read() == b""
    async with service.connected(GET) as (reader, _):
        head, body = await read_response(reader)
        assert "connection: close" in head
        assert body == b"response"


async def test_the_response_to_an_earlier_request_closes_its_connection_too(start):
    service = await start()
    service.gate.clear()
    async with service.connected(GET) as (reader, _):
        await service.received.wait()
        service.server.handle_exit(signal.SIGTERM, None)
        await until(lambda: service.shutdown.begun)
        service.gate.set()
        assert "connection: close" in (await read_response(reader))[0]


async def test_it_runs_until_the_requests_in_flight_are_answered(start, caplog):
    service = await start(lame_duck_s=0.0)
    service.gate.clear()
    async with service.connected(GET) as (reader, _):
        await service.received.wait()
        service.server.handle_exit(signal.SIGTERM, None)
        await until(lambda: service.shutdown.begun)
        began = time.monotonic()
        while time.monotonic() - began < 2 * QUIET_S:
            await asyncio.sleep(0.05)
            async with service.connected():  # new connections are still accepted
                pass
        service.gate.set()
        assert (await read_response(reader))[1] == b"response"
    await service.ended()
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_an_overdue_request_gets_an_error(start, caplog):
    service = await start()
    service.gate.clear()
    async with service.connected(GET) as (reader, _):
        await service.received.wait()
        service.server.handle_exit(signal.SIGTERM, None)
        await until(lambda: service.shutdown.begun)
        service.now = 17.0
        head, body = await read_response(reader)
        assert head.startswith("http/1.1 503")
        assert b'"draining"' in body
    await service.ended()
    assert "1 requests are abandoned" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf"],
    ids=["nothing", "half of the headers", "half of the body"],
)
async def test_an_incomplete_request_does_not_delay_the_end(start, sent):
    service = await start()
    service.gate.clear()
    async with service.connected(sent) as (reader, _):
        await until(lambda: service.server.server_state.connections)
        service.server.handle_exit(signal.SIGTERM, None)
        await until(lambda: service.shutdown.begun)
        service.now = 17.0
        await service.ended()
        await reader.read()  # to the end of the stream


async def test_a_client_that_does_not_read_does_not_delay_the_end(start, caplog):
    service = await start()
    service.body = bytes(LARGE)
    async with service.connected(GET):
        await service.received.wait()
        service.server.handle_exit(signal.SIGTERM, None)
        await until(lambda: service.shutdown.begun)
        service.now = 5.0
        await asyncio.sleep(2 * QUIET_S)
        assert not service.running.done()
        service.now = 17.0
        await service.ended()
    assert "1 requests are abandoned" in caplog.text


async def test_an_idle_connection_does_not_delay_the_end(start, caplog):
    service = await start()
    async with service.connected(GET) as (reader, _):
        await read_response(reader)
        service.server.handle_exit(signal.SIGTERM, None)
        await until(lambda: service.shutdown.begun)
        service.now = 5.0
        await service.ended()
        assert await reader.read() == b""
    assert "abandoned" not in caplog.text


async def test_a_signal_before_any_request_was_accepted_stops_it_at_once(start):
    service = await start()
    service.shutdown.opened = False
    service.server.handle_exit(signal.SIGINT, None)
    await service.ended()
    assert service.now == 0.0


async def test_requests_get_an_error_when_the_service_is_broken(start):
    service = await start()
    service.gate.clear()
    async with service.connected(GET) as (reader, _):
        await service.received.wait()
        service.shutdown.fail()
        service.server.should_exit = True
        head, body = await read_response(reader)
        assert head.startswith("http/1.1 503")
        assert b'"not_ready"' in body
    await service.ended()


@pytest.mark.parametrize("sig", [signal.SIGHUP, DRAIN_SIGNAL])
async def test_a_repeated_signal_of_a_terminal_or_the_parent_lets_the_drain_continue(
    start, monkeypatch, sig
):
    statuses = []
    monkeypatch.setattr("app.server.server.exit_now", statuses.append)
    service = await start()
    for _ in range(3):
        service.server.handle_exit(sig, None)
    assert statuses == []
    service.server.handle_exit(signal.SIGTERM, None)
    assert statuses == ([] if sig == DRAIN_SIGNAL else [128 + signal.SIGTERM])
    await until(lambda: service.shutdown.begun)
    service.now = 100.0
    await service.ended()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
async def test_the_second_signal_ends_the_process(start, monkeypatch, sig):
    statuses = []
    monkeypatch.setattr("app.server.server.exit_now", statuses.append)
    service = await start()
    service.server.handle_exit(signal.SIGTERM, None)
    assert statuses == []
    service.server.handle_exit(sig, None)
    assert statuses == [128 + sig]
