"""Owns the one timer of all connections: each is looked at a few times a second.

Knows nothing of what a connection is.
"""

import asyncio
from typing import Protocol

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


class Sweep:
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
