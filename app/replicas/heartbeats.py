"""The table of heartbeats in shared memory: a row for each replica, and the parent's own heartbeat.

A row has one writer at a time and no lock: readers see the latest heartbeat. Times are seconds of
the monotonic clock, which is the same in all processes of a machine.
"""

import ctypes
from dataclasses import dataclass
from multiprocessing import get_context

BEAT_S = 0.25  # between two heartbeats
LATE_S = 10.0  # without a heartbeat, until an event loop counts as stuck
START_S = 120.0  # from the start of a process to its first heartbeat: torch may be on a slow disk
SETTLE_S = 1.0  # a few heartbeats: by then every replica knows that this one is ready
REASON_BYTES = 512


class _Row(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_int64),  # 0: no process
        ("started_at", ctypes.c_double),
        ("last_beat", ctypes.c_double),  # 0: none yet
        ("ready_since", ctypes.c_double),  # 0: not ready
        ("last_ready_s", ctypes.c_double),  # how long it was ready, if it is not ready any more
        ("restarts", ctypes.c_int64),
        ("connections", ctypes.c_int64),
        ("was_ready", ctypes.c_bool),  # this process or an earlier one of the same replica
        ("broken", ctypes.c_bool),
        ("reason", ctypes.c_char * REASON_BYTES),
    )


@dataclass(frozen=True)
class ReplicaStatus:
    """The status of a replica according to its row.

    Args:
        index: the number of the replica.
        pid: the id of its process, or None.
        state: `ready`, or the reason why it is not.
        ready: whether it can answer requests.
        stuck: why it has to be restarted, or None.
        restarts: how often it has been restarted.
    """

    index: int
    pid: int | None
    state: str
    ready: bool
    stuck: str | None
    restarts: int


class HeartbeatTable:
    """The table of `count` replicas and their parent; it can be passed to a spawned process."""

    def __init__(self, count: int) -> None:
        context = get_context("spawn")
        self._rows = context.RawArray(_Row, count)
        self._parent_beat = context.RawValue(ctypes.c_double)

    def __len__(self) -> int:
        return len(self._rows)

    def parent_beat(self, now: float) -> None:
        """Record a heartbeat of the parent."""
        self._parent_beat.value = now

    def started(self, index: int, pid: int, now: float, *, again: bool) -> None:
        """Record that the parent has started a process; `again` if it is a restart."""
        row = self._rows[index]
        row.started_at, row.restarts, row.pid = now, row.restarts + again, pid

    def exited(self, index: int) -> None:
        """Record that the process of a replica has ended."""
        row = self._rows[index]
        row.pid, row.last_beat, row.ready_since, row.broken = 0, 0.0, 0.0, False
        row.connections, row.reason, row.last_ready_s = 0, b"", 0.0

    def beat(self, index: int, now: float, unready: str | None, broken: str | None) -> None:
        """Record a heartbeat of a replica.

        Args:
            index: the number of the replica.
            now: the time.
            unready: why it cannot answer requests, or None.
            broken: why it has to be restarted, or None.
        """
        row = self._rows[index]
        row.reason = _truncated(broken or unready or "")
        row.broken = broken is not None
        if unready is not None or broken is not None:
            row.last_ready_s = self.last_ready_s(index, now)
            row.ready_since = 0.0
        elif not row.ready_since:
            row.ready_since, row.was_ready = now, True
        row.last_beat = now

    def fail(self, index: int, reason: str) -> None:
        """Record why a replica cannot serve, before its process ends."""
        self._rows[index].reason = _truncated(reason)

    def reason(self, index: int) -> str:
        """The latest reason that the replica has recorded."""
        return bytes(self._rows[index].reason).decode(errors="replace")

    def ready_s(self, index: int, now: float) -> float:
        """Seconds since the replica became ready; 0 if it is not ready."""
        since: float = self._rows[index].ready_since
        return now - since if since else 0.0

    def last_ready_s(self, index: int, now: float) -> float:
        """Seconds that the replica has been ready, or was ready the last time."""
        return self.ready_s(index, now) or self._rows[index].last_ready_s

    def was_ready(self, index: int) -> bool:
        """Whether any process of the replica has ever been ready."""
        return bool(self._rows[index].was_ready)

    def status(self, index: int, now: float) -> ReplicaStatus:
        """The status of one replica."""
        row = self._rows[index]
        stuck = self._stuck(index, now)
        ready = bool(row.pid and row.ready_since and stuck is None)
        reason = stuck or self.reason(index) or "starting"
        state = "ready" if ready else reason if row.pid else "ended"
        return ReplicaStatus(index, row.pid or None, state, ready, stuck, row.restarts)

    def statuses(self, now: float) -> list[ReplicaStatus]:
        """The status of each replica."""
        return [self.status(index, now) for index in range(len(self._rows))]

    def should_accept(self, index: int, now: float) -> bool:
        """Whether a replica should accept connections: it is ready, or no replica is.

        Until the first replica is ready, all of them answer the probes. After that, a replica that
        is loading would only refuse requests that a ready one can answer.
        """
        ready = [each.index for each in self.statuses(now) if each.ready]
        return not ready or index in ready

    def set_connections(self, index: int, connections: int) -> None:
        """Record how many connections a replica has."""
        self._rows[index].connections = connections

    def least_connections(self, index: int, now: float) -> int | None:
        """The fewest connections of another ready replica, or None if there is none."""
        others = (each.index for each in self.statuses(now) if each.ready and each.index != index)
        return min((self._rows[other].connections for other in others), default=None)

    def reasons_dead(self, now: float) -> list[str]:
        """Why the service must be restarted: the parent is dead, or every replica is stuck."""
        if now - self._parent_beat.value > LATE_S:
            return ["the parent process of the replicas does not respond"]
        statuses = self.statuses(now)
        return _states(statuses) if all(each.stuck for each in statuses) else []

    def reasons_unready(self, now: float) -> list[str]:
        """Why no replica can answer; a replica counts as ready after `SETTLE_S`."""
        statuses = self.statuses(now)
        ready = [each for each in statuses if each.ready]
        if any(self.ready_s(each.index, now) >= SETTLE_S for each in ready):
            return []
        unready = [each for each in statuses if each not in ready]
        return [f"replica {each.index} has just become ready" for each in ready] + _states(unready)

    def reasons_unstarted(self, now: float) -> list[str]:
        """Why no replica has been ready yet."""
        if any(row.was_ready for row in self._rows):
            return []
        return _states(self.statuses(now))

    def _stuck(self, index: int, now: float) -> str | None:
        row = self._rows[index]
        if not row.pid:
            return None
        if row.broken:
            return self.reason(index)
        if not row.last_beat:
            late = now - row.started_at > START_S
            return f"no heartbeat within {START_S:.0f} s of its start" if late else None
        silent_s = now - row.last_beat
        return f"no heartbeat for {silent_s:.0f} s" if silent_s > LATE_S else None


def _states(statuses: list[ReplicaStatus]) -> list[str]:
    return [f"replica {each.index}: {each.state}" for each in statuses]


def _truncated(reason: str) -> bytes:
    return reason.encode()[: REASON_BYTES - 1]
