"""Owns whether the caller of a request is still there, and who is to be told when not.

Knows nothing of connections: a server says when the caller has left.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

REFUSED = "patchserve.refused"  # in a scope: the error that the server answers it with


CLIENT = "patchserve.client"  # in a scope: the caller, where the server tells of them

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Client:
    """Who waits for the answer to one request.

    Attributes:
        gone: whether they have left.
    """

    def __init__(self) -> None:
        self.gone = False
        self._tell: Callable[[], None] | None = None

    def left(self) -> None:
        """Know that they have left; who watches is told."""
        self.gone = True
        if self._tell is not None:
            self._tell()

    def watch(self, tell: Callable[[], None]) -> None:
        """Have this called when they leave, until `unwatch`."""
        self._tell = tell

    def unwatch(self) -> None:
        """Tell nobody any more."""
        self._tell = None


class PolledClient(Client):
    """One whose server tells no other way than ASGI's: by what there is to receive.

    Args:
        receive: after the last byte of the body: its next message is the disconnect.
    """

    def __init__(self, receive: Receive) -> None:
        super().__init__()
        self._receive = receive

    def watch(self, tell: Callable[[], None]) -> None:
        """As any caller's; it takes a task."""
        super().watch(tell)
        self._hearing = asyncio.ensure_future(self._receive())
        self._hearing.add_done_callback(lambda _: self.left())

    def unwatch(self) -> None:
        """As any caller's."""
        super().unwatch()
        self._hearing.cancel()


def client_of(scope: MutableMapping[str, Any], receive: Receive) -> Client:
    """Who waits for the answer to a request, by its scope or by ASGI's `receive`."""
    return scope.get(CLIENT) or PolledClient(receive)
