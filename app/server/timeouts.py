"""Timeouts of connections: for receiving requests, for sending responses, for idling."""

import asyncio
from asyncio import Transport
from typing import Protocol

from app.core.errors import ServiceError, UploadTooSlow
from app.server.limits import ConnectionLimits, Phase
from app.server.request_cycle import Cycle

INTERVAL_S = 0.25  # between two checks of all connections, so a timeout is up to this much late


class Connection(Protocol):
    """A connection as its timeouts see it.

    Attributes:
        transport: its transport.
        phase: what the server expects to receive next.
        timeout_generation: changes whenever a timeout starts again.
        cycle: the latest request, None before the first.
    """

    transport: Transport
    phase: Phase
    timeout_generation: int
    cycle: Cycle

    @property
    def responding(self) -> bool:
        """Whether a request waits for its response."""
        ...

    @property
    def blocked_by_server(self) -> bool:
        """Whether the client cannot continue before the server does."""
        ...

    def refuse(self, error: ServiceError) -> None:
        """Send an error response and close the connection."""
        ...


class ConnectionTimeouts:
    """The timeouts of one connection. It is updated only when the timer calls `check`.

    Args:
        limits: the limits of the connection.
        keep_alive_s: time that it may idle between two requests.
    """

    def __init__(self, limits: ConnectionLimits, keep_alive_s: float) -> None:
        self._limits = limits
        self._keep_alive_s = keep_alive_s
        self._generation, self._since = -1, 0.0  # as of the last check; when it was first seen
        self._unsent, self._unsent_since = 0, 0.0

    def check(self, connection: Connection, now: float, elapsed_s: float) -> None:
        """Close or refuse a connection whose timeout has passed.

        Args:
            connection: the connection.
            now: time on the clock of the `TimeoutTimer`, in seconds.
            elapsed_s: seconds since the previous check.
        """
        if self._send_stalled(connection, now):
            connection.transport.abort()
        elif self._generation != connection.timeout_generation:
            self._generation, self._since = connection.timeout_generation, now
        elif not connection.transport.is_closing():
            if connection.blocked_by_server:
                self._since += elapsed_s
            self._check_phase(connection, now - self._since)

    def _send_stalled(self, connection: Connection, now: float) -> bool:
        unsent = connection.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since >= self._limits.send_timeout_s

    def _check_phase(self, connection: Connection, waited_s: float) -> None:
        match connection.phase:
            case Phase.IDLE:
                first = connection.cycle is None
                timeout_s = self._limits.header_timeout_s if first else self._keep_alive_s
                if waited_s >= timeout_s and not connection.responding:
                    connection.transport.close()
            case Phase.HEADERS:
                if waited_s >= self._limits.header_timeout_s:
                    error = f"the headers did not arrive within {self._limits.header_timeout_s:g} s"
                    connection.refuse(UploadTooSlow(error))
            case Phase.BODY:
                self._check_upload(connection, waited_s)
            case Phase.LINGER:
                if waited_s >= self._limits.linger_s:
                    connection.transport.close()

    def _check_upload(self, connection: Connection, waited_s: float) -> None:
        limits, cycle = self._limits, connection.cycle
        if waited_s >= limits.upload_timeout_s:
            error = f"the body did not arrive within {limits.upload_timeout_s:g} s"
            connection.refuse(UploadTooSlow(error))
        elif waited_s >= limits.grace_s and cycle.received < self._min_rate(cycle) * waited_s:
            least = {"min_upload_bytes_per_s": limits.min_upload_bytes_per_s}
            connection.refuse(UploadTooSlow("the body arrives too slowly", limits=least))

    def _min_rate(self, cycle: Cycle) -> float:
        """Lowest accepted rate of a body, in bytes per second.

        The declared size is reserved in the memory for bodies, so a client that declares a large
        body must send at least half as fast as the upload timeout requires.
        """
        required = (cycle.content_length or 0) / self._limits.upload_timeout_s
        return max(self._limits.min_upload_bytes_per_s, required / 2)


class HasTimeouts(Protocol):
    """A connection as the timer sees it."""

    def check_timeouts(self, now: float, elapsed_s: float) -> None:
        """Check the timeouts of the connection.

        Args:
            now: time on the clock of the timer, in seconds.
            elapsed_s: seconds since the previous check.
        """
        ...


class TimeoutTimer:
    """One timer that checks all connections, and runs only while there are any.

    A timer for each connection, set and cancelled with each request, would cost more than the rest
    of the protocol's bookkeeping. Delays of the event loop do not count on the timer's clock,
    because they are not the client's fault.

    Args:
        interval_s: seconds between two checks; a timeout is noticed up to this much late.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._connections: set[HasTimeouts] = set()
        self._clock = self._checked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: HasTimeouts) -> None:
        """Start checking a connection."""
        self._connections.add(connection)
        if self._timer is None:
            self._checked_at = asyncio.get_running_loop().time()
            self._schedule()

    def discard(self, connection: HasTimeouts) -> None:
        """Stop checking a connection."""
        self._connections.discard(connection)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval_s, self._check_all)

    def _check_all(self) -> None:
        now = asyncio.get_running_loop().time()
        elapsed_s = min(now - self._checked_at, 2 * self._interval_s)
        self._checked_at = now
        self._clock += elapsed_s
        for connection in tuple(self._connections):
            connection.check_timeouts(self._clock, elapsed_s)
        self._timer = None
        if self._connections:
            self._schedule()
