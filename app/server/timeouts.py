"""Owns how long a connection waits for its other side: to send, and to take what it is sent.

Knows nothing of what is sent; a connection tells what it waits for, and is told when it is enough.
"""

import asyncio
from asyncio import Transport
from typing import Protocol

from app.core.errors import ServiceError, UploadTooSlow
from app.server.limits import ConnectionLimits, Phase
from app.server.request_cycle import Cycle


class Connection(Protocol):
    """What is waited on.

    Attributes:
        transport: its own.
        phase: what it is expected to bring next.
        timeout_generation: changes whenever a time limit begins anew.
        cycle: its latest request, None before the first.
    """

    transport: Transport
    phase: Phase
    timeout_generation: int
    cycle: Cycle

    @property
    def answering(self) -> bool:
        """Whether a request of it has no answer yet."""
        ...

    @property
    def held_up(self) -> bool:
        """Whether it is us for whom its other side waits."""
        ...

    def refuse(self, error: ServiceError) -> None:
        """Answer with an error, and let the connection end."""
        ...


class ConnectionTimeouts:
    """The time limits of one connection; it notes nothing between two looks.

    Args:
        limits: of the connection.
        keep_alive_s: how long it may idle between two requests.
    """

    def __init__(self, limits: ConnectionLimits, keep_alive_s: float) -> None:
        self._limits = limits
        self._keep_alive_s = keep_alive_s
        self._generation, self._since = -1, 0.0  # of the last look, and when it was seen first
        self._unsent, self._unsent_since = 0, 0.0

    def look(self, connection: Connection, now: float, passed: float) -> None:
        """End what has waited for the other side too long; the times are a `TimeoutTimer`'s."""
        if self._takes_nothing(connection, now):
            connection.transport.abort()
        elif self._generation != connection.timeout_generation:
            self._generation, self._since = connection.timeout_generation, now
        elif not connection.transport.is_closing():
            if connection.held_up:
                self._since += passed
            self._judge(connection, now - self._since)

    def _takes_nothing(self, connection: Connection, now: float) -> bool:
        unsent = connection.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since >= self._limits.answer_timeout_s

    def _judge(self, connection: Connection, waited_s: float) -> None:
        match connection.phase:
            case Phase.IDLE:
                first = connection.cycle is None
                patience = self._limits.header_timeout_s if first else self._keep_alive_s
                if waited_s >= patience and not connection.answering:
                    connection.transport.close()
            case Phase.HEADERS:
                if waited_s >= self._limits.header_timeout_s:
                    error = f"the headers were not there within {self._limits.header_timeout_s:g} s"
                    connection.refuse(UploadTooSlow(error))
            case Phase.BODY:
                self._judge_upload(connection, waited_s)
            case Phase.LINGER:
                if waited_s >= self._limits.linger_s:
                    connection.transport.close()

    def _judge_upload(self, connection: Connection, waited_s: float) -> None:
        limits, cycle = self._limits, connection.cycle
        if waited_s >= limits.upload_timeout_s:
            error = f"the body was not there within {limits.upload_timeout_s:g} s"
            connection.refuse(UploadTooSlow(error))
        elif waited_s >= limits.grace_s and cycle.received < self._pace(cycle) * waited_s:
            least = {"min_upload_bytes_per_s": limits.min_upload_bytes_per_s}
            connection.refuse(UploadTooSlow("the body comes in too slowly", limits=least))

    def _pace(self, cycle: Cycle) -> float:
        """Bytes of the body a second, at least; who goes at half of what is needed is never done.

        What a body declares is held for it, so nobody shall declare much and send little.
        """
        needed = (cycle.declared or 0) / self._limits.upload_timeout_s
        return max(self._limits.min_upload_bytes_per_s, needed / 2)


INTERVAL_S = 0.25


class Watched(Protocol):
    """What wants to be looked at."""

    def look(self, now: float, passed: float) -> None:
        """See whether something has taken too long.

        Args:
            now: on the clock of the sweep, in seconds.
            passed: the seconds since the last look at anything.
        """
        ...


class TimeoutTimer:
    """Looks at everything that was added, for as long as there is anything.

    A timer for each connection, set and cancelled with each request, would cost more than the
    requests' own bookkeeping. The clock does not count what the event loop itself was late by:
    nobody is to be blamed for that.

    Args:
        interval_s: seconds from one look to the next; how late a time limit is noticed.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._watched: set[Watched] = set()
        self._clock = self._looked = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, one: Watched) -> None:
        """Look at this one from now on."""
        self._watched.add(one)
        if self._timer is None:
            self._looked = asyncio.get_running_loop().time()
            self._again()

    def discard(self, one: Watched) -> None:
        """Look at it no more."""
        self._watched.discard(one)

    def _again(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval_s, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        passed = min(now - self._looked, 2 * self._interval_s)
        self._looked = now
        self._clock += passed
        for one in tuple(self._watched):
            one.look(self._clock, passed)
        self._timer = None
        if self._watched:
            self._again()
