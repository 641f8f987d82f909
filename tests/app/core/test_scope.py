"""The client of a request, and the callback when it disconnects."""

import asyncio

import pytest

from app.core.scope import API_KEY, CLIENT, Client, PolledClient, client_of, identity_of

pytestmark = pytest.mark.anyio


class Connection:
    """ASGI's receive after the body: it returns when the client disconnects."""

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


def test_the_callback_is_called_until_it_is_removed():
    client, calls = Client(), []
    client.watch(lambda: calls.append("first"))
    client.unwatch()
    client.on_disconnect()
    assert (client.gone, calls) == (True, [])
    client.watch(lambda: calls.append("second"))
    client.on_disconnect()
    assert calls == ["second"]


async def test_with_other_servers_receive_reports_the_disconnect():
    connection, called = Connection(), asyncio.Event()
    client = client_of({}, connection.receive)
    client.watch(called.set)
    await turns(2)
    assert not called.is_set()
    connection.gone.set()
    await called.wait()
    assert client.gone
    client.unwatch()


async def test_unwatch_ends_the_call_of_receive():
    connection, calls = Connection(), []
    client = PolledClient(connection.receive)
    client.watch(lambda: calls.append("gone"))
    await turns(2)
    assert connection.listeners == 1
    client.unwatch()
    await turns(3)
    assert (connection.listeners, calls) == (0, [])


async def test_a_request_that_has_ended_does_not_count_as_a_disconnect():
    client = PolledClient(Connection().receive)
    client.watch(lambda: None)
    client.unwatch()
    await turns(3)
    assert not client.gone


async def test_a_failed_receive_counts_as_a_disconnect():
    async def receive():
        raise ConnectionResetError

    client, called = PolledClient(receive), asyncio.Event()
    client.watch(called.set)
    await called.wait()
    assert client.gone


async def test_our_server_provides_the_client():
    known = Client()
    assert client_of({CLIENT: known}, Connection().receive) is known


def test_a_request_counts_for_its_key_or_else_for_its_address():
    scope = {"client": ("192.0.2.1", 5000)}
    assert identity_of(scope) == identity_of({"client": ("192.0.2.1", 6000)}) == "192.0.2.1"
    assert identity_of(scope | {API_KEY: 2}) == identity_of({API_KEY: 2}) == 2
    assert identity_of({"client": None}) is identity_of({}) is None


def test_addresses_of_one_ipv6_network_count_as_one_client():
    first, second, other = ("2001:db8:0:1::1", "2001:db8:0:1:ff::9", "2001:db8:0:2::1")
    assert identity_of({"client": (first, 1)}) == identity_of({"client": (second, 1)})
    assert identity_of({"client": (first, 1)}) != identity_of({"client": (other, 1)})
    assert identity_of({"client": ("unix:/socket", 1)}) == "unix:/socket"


def test_an_ipv4_address_counts_alike_in_both_forms():
    assert identity_of({"client": ("::ffff:192.0.2.1", 1)}) == "192.0.2.1"
    assert identity_of({"client": ("::ffff:192.0.2.2", 1)}) == "192.0.2.2"
