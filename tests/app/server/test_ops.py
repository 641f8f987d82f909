"""The server of probes and metrics: its own socket, the same event loop and state."""

import asyncio
import signal
import socket
from functools import partial

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from app.cli.run import server_config
from app.core.settings import Settings
from app.server.ops import serving

pytestmark = pytest.mark.anyio
configure = partial(server_config, Settings(), 4096)


async def echo(scope, receive, send) -> None:
    """Respond with the text in the state."""
    await Response(Request(scope).state.text)(scope, receive, send)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def test_it_responds_on_its_socket_with_the_given_state(listener):
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient() as client:
        async with serving(configure, listener, echo, {"text": "so"}):
            response = await client.get(url)
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
    assert (response.status_code, response.text) == (200, "so")
    assert "date" in response.headers


async def test_it_installs_no_signal_handlers(listener):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with serving(configure, listener, echo, {}):
        await asyncio.sleep(0)
        during = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert during == before


async def test_its_failure_is_logged_and_ends_nothing_else(listener, monkeypatch, caplog):
    async def fail(*_):
        raise OSError("no more sockets")

    monkeypatch.setattr("app.server.ops.OpsServer.run_on", fail)
    async with serving(configure, listener, echo, {}):
        await asyncio.sleep(0)
    assert "no more sockets" in caplog.text


async def test_an_open_connection_does_not_keep_it_running(listener):
    async with serving(configure, listener, echo, {"text": "so"}):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert await reader.read() is not None  # read to the end: the connection is closed
    writer.close()
