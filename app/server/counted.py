"""The connections within and beyond the limit, and which of them gives way to a new one."""

import time
from asyncio import Transport
from collections.abc import Callable
from typing import Protocol

LEAST_IDLE_S = 1.0  # a younger connection is about to send its request


class Idle(Protocol):
    """A connection as this module sees it.

    Attributes:
        transport: its transport.
    """

    transport: Transport


class CountedConnections:
    """The connections that count toward the limit; the idle ones by the time they became idle.

    Connections beyond the limit do not count; they are in order of arrival.

    Args:
        clock: the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: set[Idle] = set()
        self._idle: dict[Idle, float] = {}
        self._beyond: dict[Idle, None] = {}

    def __len__(self) -> int:
        return len(self._counted)

    def add(self, connection: Idle) -> None:
        """Count a new connection, which is idle."""
        self._counted.add(connection)
        self.update(connection, idle=True)

    def add_beyond(self, connection: Idle, most: int) -> None:
        """Add a connection that does not count; above so many of them, abort the oldest one.

        It is beyond the limit, or is only read until it closes. The oldest one has had the most
        time to read its response.
        """
        self._counted.discard(connection)
        self._idle.pop(connection, None)
        self._beyond[connection] = None
        if len(self._beyond) > most:
            oldest = next(iter(self._beyond))
            self.discard(oldest)
            oldest.transport.abort()

    def discard(self, connection: Idle) -> None:
        """Forget a connection that has closed."""
        self._counted.discard(connection)
        self._idle.pop(connection, None)
        self._beyond.pop(connection, None)

    def update(self, connection: Idle, *, idle: bool) -> None:
        """Note whether a counted connection is idle from now on."""
        if not idle:
            self._idle.pop(connection, None)
        elif connection in self._counted:
            self._idle.setdefault(connection, self._clock())

    def close_longest_idle(self) -> bool:
        """Close the connection that has been idle longest; False if none has been for a second.

        A connection with bytes left to send would not end at once, so it is not closed.
        """
        latest = self._clock() - LEAST_IDLE_S
        for connection, since in self._idle.items():
            if since > latest:
                return False
            if not connection.transport.get_write_buffer_size():
                self.discard(connection)
                connection.transport.close()
                return True
        return False
