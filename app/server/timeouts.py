"""Timeouts of connections: for receiving requests, for sending responses, for idling."""

import asyncio
from asyncio import Transport
from collections.abc import Callable, Mapping
from math import inf
from threading import Thread
from typing import NamedTuple, Protocol

from app.core.errors import ServiceError, UploadTooSlow
from app.core.malloc import release
from app.server.limits import ConnectionLimits, Phase
from app.server.request_cycle import Cycle

MANY_UNSENT = 64 * 2**20  # bytes left to send whose memory is worth returning to the kernel
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

    def abort(self, reason: str) -> None:
        """Close the connection without the bytes left to send, and count the reason."""
        ...


class Unsent(NamedTuple):
    """Bytes left to send on a connection, and since when there have been any.

    Attributes:
        size: number of bytes.
        since: on the clock of the `TimeoutTimer`, in seconds.
    """

    size: int
    since: float


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
        self._unsent = Unsent(0, 0.0)
        self._window = Unsent(0, 0.0)  # at the start of the time in which the rate is measured

    def check(self, connection: Connection, now: float, elapsed_s: float) -> Unsent:
        """Close or refuse a connection whose timeout has passed.

        Args:
            connection: the connection.
            now: time on the clock of the `TimeoutTimer`, in seconds.
            elapsed_s: seconds since the previous check.

        Returns:
            The bytes left to send.
        """
        if self._receives_too_slowly(connection, now):
            connection.abort("slow_receiver")
            self._unsent = Unsent(0, now)
        elif self._generation != connection.timeout_generation:
            self._generation, self._since = connection.timeout_generation, now
        elif not connection.transport.is_closing():
            if connection.blocked_by_server:
                self._since += elapsed_s
            self._check_phase(connection, now - self._since)
        return self._unsent

    def _receives_too_slowly(self, connection: Connection, now: float) -> bool:
        """Whether the client has received less in the last `send_timeout_s` than it must."""
        size = connection.transport.get_write_buffer_size()
        if not size or not self._unsent.size:  # nothing is left, or it is the first time
            self._unsent = self._window = Unsent(size, now)
            return False
        self._unsent = Unsent(size, self._unsent.since)
        if size > self._window.size:  # another response
            self._window = Unsent(size, now)
        limits = self._limits
        if now - self._window.since < limits.send_timeout_s:
            return False
        received, self._window = self._window.size - size, Unsent(size, now)
        return received < max(1, limits.min_download_bytes_per_s * limits.send_timeout_s)

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
        elif (
            waited_s >= limits.grace_s and cycle.received < limits.min_upload_bytes_per_s * waited_s
        ):
            least = {"min_upload_bytes_per_s": limits.min_upload_bytes_per_s}
            connection.refuse(UploadTooSlow("the body arrives too slowly", limits=least))


class HasTimeouts(Protocol):
    """A connection as the timer sees it."""

    def check_timeouts(self, now: float, elapsed_s: float) -> Unsent:
        """Check the timeouts of the connection.

        Args:
            now: time on the clock of the timer, in seconds.
            elapsed_s: seconds since the previous check.

        Returns:
            The bytes left to send.
        """
        ...

    def abort(self, reason: str) -> None:
        """Close the connection without the bytes left to send, and count the reason."""
        ...


class TimeoutTimer:
    """One timer that checks all connections, and runs only while there are any.

    A timer for each connection, set and cancelled with each request, would cost more than the rest
    of the protocol's bookkeeping. Delays of the event loop do not count on the timer's clock,
    because they are not the client's fault.

    The timer also bounds the memory of responses that clients do not receive.

    Args:
        interval_s: seconds between two checks; a timeout is noticed up to this much late.
        max_unsent_bytes: most bytes left to send on all connections; above this, the connections
            that have had some for the longest time are closed.
        release: called in a thread when most of a large number of bytes left to send is gone.
    """

    def __init__(
        self,
        interval_s: float = INTERVAL_S,
        max_unsent_bytes: float = inf,
        release: Callable[[], None] = release,
    ) -> None:
        self._interval_s = interval_s
        self._max_unsent_bytes = max_unsent_bytes
        self._release = release
        self._most_unsent = 0  # since the memory was released
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
        unsent = {
            each: each.check_timeouts(self._clock, elapsed_s) for each in tuple(self._connections)
        }
        self._bound_unsent(unsent)
        self._release_memory(sum(size for size, _ in unsent.values()))
        self._timer = None
        if self._connections:
            self._schedule()

    def _release_memory(self, unsent: int) -> None:
        """Return the memory of large responses to the kernel after they were received or lost."""
        self._most_unsent = max(self._most_unsent, unsent)
        if self._most_unsent >= MANY_UNSENT and unsent < self._most_unsent / 2:
            self._most_unsent = unsent
            Thread(target=self._release, daemon=True).start()

    def _bound_unsent(self, unsent: Mapping[HasTimeouts, Unsent]) -> None:
        excess = sum(size for size, _ in unsent.values()) - self._max_unsent_bytes
        if excess <= 0:
            return
        for connection in sorted(unsent, key=lambda each: unsent[each].since):
            if excess > 0 and unsent[connection].size:
                connection.abort("unsent_bytes")
                excess -= unsent[connection].size
