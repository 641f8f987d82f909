"""The server of a replica: which connections it accepts from a shared socket, and until when."""

import asyncio
import signal
import socket
import time
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
import uvicorn

from app.core.process import DRAIN_SIGNAL
from app.core.shutdown import Shutdown
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.server import ReplicaServer
from app.server.server import QUIET_S

pytestmark = pytest.mark.anyio


@pytest.fixture
def table():
    table = HeartbeatTable(2)
    for index in range(2):
        table.started(index, 100 + index, time.monotonic(), again=False)
    return table


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@asynccontextmanager
async def replica(index, table, listener, timeout_s=60.0):
    """A running server that responds with its index."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for part in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{part}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(index).encode()})

    with listener.dup() as own:
        shutdown = Shutdown(0.0, timeout_s)
        shutdown.opened = True
        config = uvicorn.Config(app, log_config=None, ws="none")
        server = ReplicaServer(config, own, shutdown, table, index)
        server._loop = asyncio.get_running_loop()
        serving = asyncio.create_task(server._serve())
        try:
            yield server
        finally:
            server.should_exit = True
            await asyncio.wait_for(serving, 30)


@pytest.fixture
def client(listener):
    host, port = listener.getsockname()
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30)


async def until_answered(client, connection):
    """Send requests until the header `connection` has this value."""
    while (await client.get("/")).headers.get("connection") != connection:
        pass


async def test_until_a_replica_is_ready_a_response_closes_its_connection(table, listener, client):
    async with client, replica(0, table, listener):
        response = await client.get("/")
        assert (response.text, response.headers["connection"]) == ("0", "close")
        table.beat(0, time.monotonic(), None, None)
        await until_answered(client, None)


async def test_a_replica_that_is_not_ready_leaves_connections_to_a_ready_one(
    table, listener, client
):
    table.beat(1, time.monotonic(), None, None)
    async with client, replica(0, table, listener), replica(1, table, listener):
        assert {(await client.get("/")).text for _ in range(8)} == {"1"}


async def test_a_replica_that_is_no_longer_ready_closes_its_connections(table, listener, client):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    async with client, replica(0, table, listener):
        assert (await client.get("/")).text == "0"
        table.beat(0, time.monotonic(), "draining", None)
        await until_answered(client, "close")
        async with replica(1, table, listener):
            assert (await client.get("/")).text == "1"


async def test_connections_are_spread_over_ready_replicas(table, listener, client):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    async with (
        replica(0, table, listener) as first,
        replica(1, table, listener) as second,
        client,
    ):
        await asyncio.gather(*(client.get("/") for _ in range(40)))
        counts = [len(server.server_state.connections) for server in (first, second)]
    assert sum(counts) > 10
    assert min(counts) >= sum(counts) // 4


async def test_a_replica_that_stops_alone_accepts_no_more_connections(table, listener, client):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    async with client, replica(0, table, listener) as stopping, replica(1, table, listener):
        stopping.handle_exit(signal.SIGTERM, None)
        while table.status(0, time.monotonic()).state != "draining":  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert {(await client.get("/")).text for _ in range(8)} == {"1"}


async def test_when_all_stop_they_accept_connections_until_none_arrives(table, listener, client):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    address = listener.getsockname()
    async with (
        client,
        replica(0, table, listener) as first,
        replica(1, table, listener) as second,
    ):
        listener.close()  # as the parent closes its own
        await client.get("/")
        for sig in (
            DRAIN_SIGNAL,
            signal.SIGTERM,
            DRAIN_SIGNAL,
        ):  # a service manager signals all processes as well
            for server in (first, second):
                server.handle_exit(sig, None)
        await until_answered(client, "close")
        with suppress(ConnectionRefusedError):
            while True:
                _, writer = await asyncio.open_connection(*address)
                writer.close()
                await asyncio.sleep(2 * QUIET_S)


async def test_connections_are_served_to_the_very_end(table, listener):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    address = listener.getsockname()
    answered = 0

    async def ask(client):
        nonlocal answered
        with suppress(ConnectionRefusedError):
            while True:
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
                answered += 1

    async with (
        replica(0, table, listener, 0.5) as first,
        replica(1, table, listener, 0.5) as second,
    ):
        listener.close()
        for server in (first, second):
            server.handle_exit(DRAIN_SIGNAL, None)
        await asyncio.gather(*map(ask, range(8)))
    assert answered > 8
