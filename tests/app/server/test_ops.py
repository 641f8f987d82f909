"""The second server: another socket, another count of connections, the same loop and state."""

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
configure = partial(server_config, Settings())


async def echo(scope, receive, send) -> None:
    """Answer with what the state says."""
    await Response(Request(scope).state.said)(scope, receive, send)


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


async def test_it_answers_on_its_socket_with_the_state_it_was_given(listening):
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with httpx.AsyncClient() as client:
        async with serving(configure, listening, echo, {"said": "so"}):
            answer = await client.get(url)
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
    assert (answer.status_code, answer.text) == (200, "so")
    assert "date" in answer.headers


async def test_signals_are_left_to_the_process(listening):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with serving(configure, listening, echo, {}):
        await asyncio.sleep(0)
        during = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert during == before


async def test_a_caller_who_stays_does_not_keep_it(listening):
    async with serving(configure, listening, echo, {"said": "so"}):
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert await reader.read() is not None  # to its end: the connection is closed
    writer.close()
