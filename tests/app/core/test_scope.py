"""Who waits for an answer, and who is told that they have left."""

import asyncio

import pytest

from app.core.scope import CLIENT, Client, PolledClient, client_of

pytestmark = pytest.mark.anyio


class Connection:
    """ASGI's receive after the body: nothing comes until the caller leaves."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.listeners = 0

    async def receive(self) -> dict[str, str]:
        self.listeners += 1
        try:
            await self.gone.wait()
        finally:
            self.listeners -= 1
        return {"type": "http.disconnect"}


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_who_watches_is_told_until_they_cease():
    client, told = Client(), []
    client.watch(lambda: told.append("first"))
    client.unwatch()
    client.left()
    assert (client.gone, told) == (True, [])
    client.watch(lambda: told.append("second"))
    client.left()
    assert told == ["second"]


async def test_a_server_that_tells_nothing_is_listened_to():
    connection, told = Connection(), asyncio.Event()
    client = client_of({}, connection.receive)
    client.watch(told.set)
    await turns(2)
    assert not told.is_set()
    connection.gone.set()
    await told.wait()
    assert client.gone
    client.unwatch()


async def test_nobody_listens_once_nobody_watches():
    connection, told = Connection(), []
    client = PolledClient(connection.receive)
    client.watch(lambda: told.append("gone"))
    await turns(2)
    assert connection.listeners == 1
    client.unwatch()
    await turns(3)
    assert (connection.listeners, told) == (0, [])


async def test_a_server_that_tells_is_asked():
    known = Client()
    assert client_of({CLIENT: known}, Connection().receive) is known
