"""The server of a replica: on one socket with others, it takes what it should and keeps it."""

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
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@asynccontextmanager
async def replica(index, table, listening, timeout_s=60.0):
    """A running server that answers with its index."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for part in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{part}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(index).encode()})

    with listening.dup() as own:
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
def client(listening):
    host, port = listening.getsockname()
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30)


async def until_answered(client, connection):
    """Ask until the header `connection` is this."""
    while (await client.get("/")).headers.get("connection") != connection:
        pass


async def test_before_anyone_is_ready_an_answer_closes_its_connection(table, listening, client):
    async with client, replica(0, table, listening):
        answer = await client.get("/")
        assert (answer.text, answer.headers["connection"]) == ("0", "close")
        table.beat(0, time.monotonic(), None, None)
        await until_answered(client, None)


async def test_who_is_not_ready_leaves_connections_to_who_is(table, listening, client):
    table.beat(1, time.monotonic(), None, None)
    async with client, replica(0, table, listening), replica(1, table, listening):
        assert {(await client.get("/")).text for _ in range(8)} == {"1"}


async def test_who_ceases_to_be_ready_lets_go_of_its_connections(table, listening, client):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    async with client, replica(0, table, listening):
        assert (await client.get("/")).text == "0"
        table.beat(0, time.monotonic(), "draining", None)
        await until_answered(client, "close")
        async with replica(1, table, listening):
            assert (await client.get("/")).text == "1"


async def test_connections_are_spread_over_who_is_ready(table, listening, client):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    async with (
        replica(0, table, listening) as first,
        replica(1, table, listening) as second,
        client,
    ):
        await asyncio.gather(*(client.get("/") for _ in range(40)))
        held = [len(server.server_state.connections) for server in (first, second)]
    assert sum(held) > 10
    assert min(held) >= sum(held) // 4


async def test_one_that_is_told_to_leave_alone_takes_no_connections_any_more(
    table, listening, client
):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    async with client, replica(0, table, listening) as leaving, replica(1, table, listening):
        leaving.handle_exit(signal.SIGTERM, None)
        while table.status(0, time.monotonic()).state != "draining":  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert {(await client.get("/")).text for _ in range(8)} == {"1"}


async def test_when_all_are_told_they_take_connections_until_nobody_comes(table, listening, client):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    address = listening.getsockname()
    async with (
        client,
        replica(0, table, listening) as first,
        replica(1, table, listening) as second,
    ):
        listening.close()  # as the parent does
        await client.get("/")
        for sig in (
            DRAIN_SIGNAL,
            signal.SIGTERM,
            DRAIN_SIGNAL,
        ):  # a service manager tells everyone, too
            for server in (first, second):
                server.handle_exit(sig, None)
        await until_answered(client, "close")
        with suppress(ConnectionRefusedError):
            while True:
                _, writer = await asyncio.open_connection(*address)
                writer.close()
                await asyncio.sleep(2 * QUIET_S)


async def test_those_who_come_to_the_very_end_are_answered(table, listening):
    for index in range(2):
        table.beat(index, time.monotonic(), None, None)
    address = listening.getsockname()
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
        replica(0, table, listening, 0.5) as first,
        replica(1, table, listening, 0.5) as second,
    ):
        listening.close()
        for server in (first, second):
            server.handle_exit(DRAIN_SIGNAL, None)
        await asyncio.gather(*map(ask, range(8)))
    assert answered > 8
