"""The supervisor of the replicas: starts them, restarts failed and stuck ones, and stops them."""

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

TICK_S = 0.25  # between two checks of the replicas
LATE_TICK_S = 2.0  # between two checks, if the supervisor was suspended (a paused container)
STABLE_S = 60.0  # if a replica was ready this long, its exit starts a new series of failures
MAX_DELAY_S = 30.0  # before a restart
MAX_FAILED_STARTS = 3  # of a replica that has never been ready, until the service gives up


class Child(Protocol):
    """The process of a replica, with the names of `multiprocessing`."""

    @property
    def pid(self) -> int | None:
        """The process id."""
        ...

    @property
    def exitcode(self) -> int | None:
        """None while the process runs; the negative number of the signal that killed it."""
        ...

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when the process ends."""
        ...

    def terminate(self) -> None:
        """Ask the process to drain and exit."""
        ...

    def kill(self) -> None:
        """Kill the process."""
        ...

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process has ended."""
        ...


@dataclass
class Backoff:
    """Delays before restarts: 0 after the first failure of a series, then doubling from 1 s."""

    failures: int = 0

    def next_delay(self, ready_s: float) -> float:
        """Delay in seconds before the restart of a replica that had been ready for `ready_s`."""
        self.failures = 1 if ready_s >= STABLE_S else self.failures + 1
        return 0.0 if self.failures == 1 else min(MAX_DELAY_S, 2.0 ** (self.failures - 2))


@dataclass
class _Slot:
    index: int
    child: Child | None = None
    killed: Child | None = None  # the latest child that was killed
    restart_at: float = 0.0
    starts: int = 0
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
    """Supervises the processes of all replicas.

    Args:
        spawn: starts the replica of an index.
        table: the heartbeats of the replicas.
        stop_timeout_s: time that all replicas may take to stop, in seconds.
        on_stop: called when all replicas have been asked to stop.
        on_exit: called with the index of a replica that has ended.
        clock: the monotonic time in seconds.
        pause: waits for a time in seconds, or until one of the sentinels is readable.
    """

    def __init__(
        self,
        spawn: Callable[[int], Child],
        table: HeartbeatTable,
        *,
        stop_timeout_s: float,
        on_stop: Callable[[], None],
        on_exit: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[Sequence[int], float], object] = wait,
    ) -> None:
        self._slots = [_Slot(index) for index in range(len(table))]
        self._spawn = spawn
        self._table = table
        self._stop_timeout_s = stop_timeout_s
        self._notify_stop = on_stop
        self._notify_exit = on_exit
        self._clock = clock
        self._pause = pause
        self._last_tick = clock()
        self._trust_until = 0.0  # until then no replica counts as stuck

    def run(self, should_stop: Callable[[], bool]) -> ExitReason | None:
        """Keep the replicas running until `should_stop`, then stop them.

        Returns:
            Why a replica could not start, or None.
        """
        failure = None
        try:
            while not should_stop():
                failure = self._tick()
                if failure is not None:
                    break
                self._pause([child.sentinel for child in self._children], TICK_S)
            self._stop_all()
            return failure
        finally:
            for child in self._children:
                child.kill()
                child.join()

    @property
    def _children(self) -> list[Child]:
        return [slot.child for slot in self._slots if slot.child is not None]

    def _tick(self) -> ExitReason | None:
        now = self._clock()
        if now - self._last_tick > LATE_TICK_S:
            self._trust_until = now + LATE_S  # the replicas were suspended as well
        self._last_tick = now
        self._table.parent_beat(now)
        for slot in self._slots:
            if slot.child is None:
                failure = self._start(slot, now) if now >= slot.restart_at else None
                if failure is not None:
                    return failure
            elif slot.child.exitcode is not None:
                failure = self._on_exit(slot, slot.child.exitcode, now)
                if failure is not None:
                    return failure
            elif now >= self._trust_until:
                self._kill_if_stuck(slot, slot.child, now)
        return None

    def _start(self, slot: _Slot, now: float) -> ExitReason | None:
        slot.starts += 1
        try:
            slot.child = self._spawn(slot.index)
        except OSError as error:  # the system has no process, memory or file descriptor to spare
            return self._on_failed_spawn(slot, error, now)
        assert slot.child.pid is not None  # noqa: S101  # the process has been started
        self._table.started(slot.index, slot.child.pid, now, again=slot.starts > 1)
        return None

    def _on_failed_spawn(self, slot: _Slot, error: OSError, now: float) -> ExitReason | None:
        cannot = f"cannot start replica {slot.index}: {error}"
        if slot.starts >= MAX_FAILED_STARTS and not self._table.was_ready(slot.index):
            return ExitReason(cannot, START_FAILED)
        delay = max(1.0, slot.backoff.next_delay(0.0))
        slot.restart_at = now + delay
        logger.error("%s; trying again in %.0f s", cannot, delay)
        return None

    def _kill_if_stuck(self, slot: _Slot, child: Child, now: float) -> None:
        stuck = self._table.status(slot.index, now).stuck
        if stuck is not None and slot.killed is not child:
            logger.error("replica %d is stuck and is killed: %s", slot.index, stuck)
            child.kill()
            slot.killed = child

    def _on_exit(self, slot: _Slot, exitcode: int, now: float) -> ExitReason | None:
        index = slot.index
        reason = self._table.reason(index)
        delay = slot.backoff.next_delay(self._table.last_ready_s(index, now))
        slot.child, slot.restart_at = None, now + delay
        self._table.exited(index)
        self._notify_exit(index)
        if not self._table.was_ready(index):
            failure = _start_failure(slot, exitcode, reason)
            if failure is not None:
                return failure
        logger.error("replica %d %s; restarting it in %.0f s", index, _how(exitcode), delay)
        return None

    def _stop_all(self) -> None:
        for child in self._children:
            child.terminate()
        self._notify_stop()
        until = self._clock() + self._stop_timeout_s
        while (running := [c for c in self._children if c.exitcode is None]) and (
            (now := self._clock()) < until
        ):
            self._table.parent_beat(now)
            self._pause([child.sentinel for child in running], TICK_S)
        for slot in self._slots:
            exitcode = slot.child.exitcode if slot.child is not None else 0
            if exitcode is None:
                logger.error("replica %d did not stop in time and is killed", slot.index)
            elif exitcode not in (0, -DRAIN_SIGNAL):
                logger.error("replica %d %s during shutdown", slot.index, _how(exitcode))


def _start_failure(slot: _Slot, exitcode: int, reason: str) -> ExitReason | None:
    """Why the service gives up a replica that was never ready, or None to try again."""
    if exitcode > 0 and exitcode != RUN_FAILED:  # it reported an error, which may be permanent
        failure = reason or f"replica {slot.index} {_how(exitcode)}; see the log"
        return ExitReason(failure, exitcode)
    if exitcode < 0 and slot.starts >= MAX_FAILED_STARTS:  # mostly for lack of memory
        failure = f"replica {slot.index} {_how(exitcode)} while loading, {slot.starts} times"
        return ExitReason(failure, START_FAILED)
    return None


def _how(exitcode: int) -> str:
    """How a process ended, as the end of a sentence."""
    return (
        f"ended with status {exitcode}" if exitcode >= 0 else f"ended by {Signals(-exitcode).name}"
    )
