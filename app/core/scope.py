"""What our server passes to the app in the ASGI scope: the client, and an error to respond with."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, MutableMapping
from ipaddress import IPv6Address
from typing import Any

REFUSED = "patchserve.refused"  # key in a scope: the error to respond with
CLIENT = "patchserve.client"  # key in a scope: the `Client`; other servers do not set it

API_KEY = "patchserve.api_key"  # key in a scope: the number of the request's API key
NETWORK_BITS = 64  # of an IPv6 address name the network; a client may use all addresses in it

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Client:
    """The client that waits for the response to one request.

    Attributes:
        gone: whether the client has disconnected.
    """

    def __init__(self) -> None:
        self.gone = False
        self._callback: Callable[[], None] | None = None

    def on_disconnect(self) -> None:
        """Record that the client has disconnected, and call the callback of `watch`."""
        self.gone = True
        if self._callback is not None:
            self._callback()

    def watch(self, callback: Callable[[], None]) -> None:
        """Call this function when the client disconnects, until `unwatch`."""
        self._callback = callback

    def unwatch(self) -> None:
        """Remove the callback."""
        self._callback = None


class PolledClient(Client):
    """A client behind a server that reports a disconnect only by ASGI's `receive`.

    Args:
        receive: of the request, after the last body byte: its next message is the disconnect.
    """

    def __init__(self, receive: Receive) -> None:
        super().__init__()
        self._receive = receive

    def watch(self, callback: Callable[[], None]) -> None:
        """Call this function when the client disconnects; a task waits for that."""
        super().watch(callback)
        self._receiving = asyncio.ensure_future(self._receive())
        self._receiving.add_done_callback(self._on_message)

    def unwatch(self) -> None:
        """Remove the callback and cancel the task."""
        super().unwatch()
        self._receiving.cancel()

    def _on_message(self, receiving: asyncio.Future[MutableMapping[str, Any]]) -> None:
        if not receiving.cancelled():
            receiving.exception()  # retrieved, because it also means that the client is gone
            self.on_disconnect()


def client_of(scope: MutableMapping[str, Any], receive: Receive) -> Client:
    """The client of a request: from the scope of our server, otherwise by ASGI's `receive`."""
    return scope.get(CLIENT) or PolledClient(receive)


def identity_of(scope: MutableMapping[str, Any]) -> Hashable:
    """The client that a request counts for: its API key, or its address, or None if unknown.

    Of an IPv6 address only the network counts.
    """
    if API_KEY in scope:
        return scope[API_KEY]
    address = scope["client"][0] if scope.get("client") else None
    if address is None or ":" not in address:
        return address
    try:
        ipv6 = IPv6Address(address)
    except ValueError:  # not an address: a proxy may send any text
        return address
    return str(ipv6.ipv4_mapped) if ipv6.ipv4_mapped else int(ipv6) >> NETWORK_BITS
