"""The idle connections of a server, so that the longest idle one can give way to a new one."""

from asyncio import Transport
from typing import Protocol


class Idle(Protocol):
    """A connection as this module sees it.

    Attributes:
        transport: its transport.
    """

    transport: Transport


class IdleConnections:
    """The connections without a request, in the order in which they became idle."""

    def __init__(self) -> None:
        self._connections: dict[Idle, None] = {}

    def update(self, connection: Idle, *, idle: bool) -> None:
        """Note whether a connection is idle from now on."""
        if not idle:
            self._connections.pop(connection, None)
        elif connection not in self._connections:
            self._connections[connection] = None

    def close_longest(self) -> bool:
        """Close the connection that has been idle longest; False if there is none.

        A connection with bytes left to send would not end at once, so it is not closed.
        """
        for connection in self._connections:
            if not connection.transport.get_write_buffer_size():
                del self._connections[connection]
                connection.transport.close()
                return True
        return False
