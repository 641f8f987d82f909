"""Owns the lives of the replicas: starts each, also anew when it died or is stuck, and ends them.

Knows nothing of what a replica does, nor of signals; the table of heartbeats tells how each is.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from signal import Signals
from typing import Protocol

from app.core.process import DRAIN_SIGNAL, RUN_FAILED, START_FAILED, ExitReason
from app.replicas.heartbeats import LATE_S, HeartbeatTable

logger = logging.getLogger(__name__)

TICK_S = 0.25
LATE_TICK_S = 2.0  # a parent that late was itself asleep, as in a container that is paused
STABLE_S = 60.0  # a replica that was ready for so long died of something new
LONGEST_PAUSE_S = 30.0
MAX_FAILED_STARTS = 3  # deaths of one that has never been ready, until that is taken for certain


class Child(Protocol):
    """What is asked of a replica's process, as `multiprocessing` has it."""

    @property
    def pid(self) -> int | None:
        """Its number."""
        ...

    @property
    def exitcode(self) -> int | None:
        """None while it lives; the negative number of the signal that killed it."""
        ...

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when it ends."""
        ...

    def terminate(self) -> None:
        """Ask it to leave."""
        ...

    def kill(self) -> None:
        """End it."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""
        ...


@dataclass
class Backoff:
    """How long to wait before a dead replica's next life: not at all at first, then ever longer."""

    deaths: int = 0

    def after_death(self, ready_s: float) -> float:
        """Seconds; `ready_s` is how long it had been ready."""
        self.deaths = 1 if ready_s >= STABLE_S else self.deaths + 1
        return 0.0 if self.deaths == 1 else min(LONGEST_PAUSE_S, 2.0 ** (self.deaths - 2))


@dataclass
class _Slot:
    index: int
    child: Child | None = None
    starts_at: float = 0.0
    lives: int = 0
    pauses: Backoff = field(default_factory=Backoff)


class Supervisor:
    """The processes of one service.

    Args:
        spawn: starts the replica of an index.
        table: where their heartbeats are.
        leave_s: how long all may take to leave, in seconds.
        on_leave: called when they have been told to.
        on_death: called with the index of a replica that has ended.
        clock: the monotonic time in seconds.
        pause: waits so many seconds, or until one of the sentinels is readable.
    """

    def __init__(
        self,
        spawn: Callable[[int], Child],
        table: HeartbeatTable,
        *,
        leave_s: float,
        on_leave: Callable[[], None],
        on_death: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[Sequence[int], float], object] = wait,
    ) -> None:
        self._places = [_Slot(index) for index in range(len(table))]
        self._spawn = spawn
        self._table = table
        self._leave_s = leave_s
        self._on_leave = on_leave
        self._on_death = on_death
        self._clock = clock
        self._pause = pause
        self._last_tick = clock()
        self._trusting_until = 0.0

    def run(self, told_to_leave: Callable[[], bool]) -> ExitReason | None:
        """Keep them alive until told to leave, and let them leave; why they could not start."""
        failure = None
        try:
            while not told_to_leave():
                failure = self._tick()
                if failure is not None:
                    break
                self._pause([child.sentinel for child in self._children], TICK_S)
            self._leave()
            return failure
        finally:
            for child in self._children:
                child.kill()
                child.join()

    @property
    def _children(self) -> list[Child]:
        return [place.child for place in self._places if place.child is not None]

    def _tick(self) -> ExitReason | None:
        now = self._clock()
        if now - self._last_tick > LATE_TICK_S:
            self._trusting_until = now + LATE_S  # the replicas slept too
        self._last_tick = now
        self._table.parent_beat(now)
        for place in self._places:
            if place.child is None:
                if now >= place.starts_at:
                    self._start(place, now)
            elif place.child.exitcode is not None:
                failure = self._on_exit(place, place.child.exitcode, now)
                if failure is not None:
                    return failure
            elif now >= self._trusting_until:
                self._end_if_stuck(place.index, place.child, now)
        return None

    def _start(self, place: _Slot, now: float) -> None:
        place.child = self._spawn(place.index)
        assert place.child.pid is not None  # noqa: S101  # it has been started
        self._table.started(place.index, place.child.pid, now, again=place.lives > 0)
        place.lives += 1

    def _end_if_stuck(self, index: int, child: Child, now: float) -> None:
        stuck = self._table.status(index, now).stuck
        if stuck is not None:
            logger.error("replica %d is stuck and is ended: %s", index, stuck)
            child.kill()

    def _on_exit(self, place: _Slot, exitcode: int, now: float) -> ExitReason | None:
        index, ended = place.index, _ended(exitcode)
        reason = self._table.reason(index)
        pause = place.pauses.after_death(self._table.lasted_s(index, now))
        place.child, place.starts_at = None, now + pause
        self._table.exited(index)
        self._on_death(index)
        if not self._table.was_ready(index):
            if exitcode > 0 and exitcode != RUN_FAILED:  # it gave up, and may always
                told = reason or f"replica {index} ended {ended}; the log says why"
                return ExitReason(told, exitcode)
            if exitcode < 0 and place.lives >= MAX_FAILED_STARTS:  # of too little memory, mostly
                told = f"replica {index} ended {ended} while it loaded, {place.lives} times"
                return ExitReason(told, START_FAILED)
        logger.error("replica %d ended %s; it is started anew in %.0f s", index, ended, pause)
        return None

    def _leave(self) -> None:
        for child in self._children:
            child.terminate()
        self._on_leave()
        until = self._clock() + self._leave_s
        while (living := [c for c in self._children if c.exitcode is None]) and (
            (now := self._clock()) < until
        ):
            self._table.parent_beat(now)
            self._pause([child.sentinel for child in living], TICK_S)
        for place in self._places:
            ended = place.child.exitcode if place.child is not None else 0
            if ended is None:
                logger.error("replica %d did not leave in time and is ended", place.index)
            elif ended not in (0, -DRAIN_SIGNAL):
                logger.error("replica %d ended %s while it left", place.index, _ended(ended))


def _ended(exitcode: int) -> str:
    return f"with status {exitcode}" if exitcode >= 0 else f"by {Signals(-exitcode).name}"
