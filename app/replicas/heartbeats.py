"""Owns the table of heartbeats: in shared memory, a row for each replica and one for their parent.

Knows nothing of processes, models or HTTP. A row has one writer at a time, and nobody waits for it:
whoever reads finds the last beat. Times are seconds of the monotonic clock, which all share.
"""

import ctypes
from dataclasses import dataclass
from multiprocessing import get_context

BEAT_S = 0.25
LATE_S = 10.0  # a loop that gave no beat for so long is stuck
START_S = 120.0  # from a process's birth to its first beat: torch may come from a slow disk
SETTLE_S = 1.0  # a few beats: by then every replica knows that this one is ready
REASON_BYTES = 512


class _Row(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_int64),  # 0: no process
        ("born", ctypes.c_double),
        ("beat", ctypes.c_double),  # 0: none yet
        ("ready_since", ctypes.c_double),  # 0: not ready
        ("was_ready_s", ctypes.c_double),  # for how long, when it is not any more
        ("restarts", ctypes.c_int64),
        ("connections", ctypes.c_int64),
        ("was_ready", ctypes.c_bool),  # this one or one whose place it took
        ("broken", ctypes.c_bool),
        ("reason", ctypes.c_char * REASON_BYTES),
    )


@dataclass(frozen=True)
class ReplicaStatus:
    """How a replica is, as its row says.

    Args:
        index: which replica.
        pid: of its process, or None.
        state: `ready`, or why it is not.
        ready: whether it can answer.
        stuck: why only an end can help it, or None.
        restarts: how often it has been started anew.
    """

    index: int
    pid: int | None
    state: str
    ready: bool
    stuck: str | None
    restarts: int


class HeartbeatTable:
    """The table of `count` replicas and their parent; a spawned process can be given it."""

    def __init__(self, count: int) -> None:
        context = get_context("spawn")
        self._rows = context.RawArray(_Row, count)
        self._parent_beat = context.RawValue(ctypes.c_double)

    def __len__(self) -> int:
        return len(self._rows)

    def parent_beat(self, now: float) -> None:
        """The parent's own beat."""
        self._parent_beat.value = now

    def started(self, index: int, pid: int, now: float, *, again: bool) -> None:
        """The parent has started a process; `again` when it takes a dead one's place."""
        row = self._rows[index]
        row.born, row.restarts, row.pid = now, row.restarts + again, pid

    def exited(self, index: int) -> None:
        """The parent has found a process to have ended."""
        row = self._rows[index]
        row.pid, row.beat, row.ready_since, row.broken = 0, 0.0, 0.0, False
        row.connections, row.reason, row.was_ready_s = 0, b"", 0.0

    def beat(self, index: int, now: float, unready: str | None, broken: str | None) -> None:
        """A replica's beat: why it cannot answer and why only an end can help it, or None."""
        row = self._rows[index]
        row.reason = _short(broken or unready or "")
        row.broken = broken is not None
        if unready is not None or broken is not None:
            row.was_ready_s = self.lasted_s(index, now)
            row.ready_since = 0.0
        elif not row.ready_since:
            row.ready_since, row.was_ready = now, True
        row.beat = now

    def fail(self, index: int, reason: str) -> None:
        """The last word of a replica that cannot serve."""
        self._rows[index].reason = _short(reason)

    def reason(self, index: int) -> str:
        """What the replica last said."""
        return bytes(self._rows[index].reason).decode(errors="replace")

    def ready_s(self, index: int, now: float) -> float:
        """Seconds since the replica became ready; 0 when it is not."""
        since: float = self._rows[index].ready_since
        return now - since if since else 0.0

    def lasted_s(self, index: int, now: float) -> float:
        """Seconds that the replica has been ready, or was until it ceased to be."""
        return self.ready_s(index, now) or self._rows[index].was_ready_s

    def was_ready(self, index: int) -> bool:
        """Whether the replica has ever been ready, in this life or an earlier one."""
        return bool(self._rows[index].was_ready)

    def status(self, index: int, now: float) -> ReplicaStatus:
        """How one replica is."""
        row = self._rows[index]
        stuck = self._stuck(index, now)
        ready = bool(row.pid and row.ready_since and stuck is None)
        why = stuck or self.reason(index) or "starting"
        state = "ready" if ready else why if row.pid else "ended"
        return ReplicaStatus(index, row.pid or None, state, ready, stuck, row.restarts)

    def statuses(self, now: float) -> list[ReplicaStatus]:
        """How each replica is."""
        return [self.status(index, now) for index in range(len(self._rows))]

    def should_accept(self, index: int, now: float) -> bool:
        """Whether a replica should take connections: it is ready, or nobody is.

        Before the first is ready all answer the probes; after that, whoever loads stays away, for
        it could only refuse what the others can do.
        """
        ready = [each.index for each in self.statuses(now) if each.ready]
        return not ready or index in ready

    def set_connections(self, index: int, connections: int) -> None:
        """A replica tells how many connections it has."""
        self._rows[index].connections = connections

    def least_connections(self, index: int, now: float) -> int | None:
        """The connections of that one of the others who is ready and has fewest."""
        others = (each.index for each in self.statuses(now) if each.ready and each.index != index)
        return min((self._rows[other].connections for other in others), default=None)

    def reasons_dead(self, now: float) -> list[str]:
        """Why only a restart of all can help: nobody restarts the dead, or all are stuck."""
        if now - self._parent_beat.value > LATE_S:
            return ["the parent of the replicas does not answer"]
        statuses = self.statuses(now)
        return _told(statuses) if all(each.stuck for each in statuses) else []

    def reasons_unready(self, now: float) -> list[str]:
        """Why no replica can answer; one that has just become ready does not count yet."""
        statuses = self.statuses(now)
        ready = [each for each in statuses if each.ready]
        if any(self.ready_s(each.index, now) >= SETTLE_S for each in ready):
            return []
        waiting = [each for each in statuses if each not in ready]
        return [f"replica {each.index} has just become ready" for each in ready] + _told(waiting)

    def reasons_unstarted(self, now: float) -> list[str]:
        """Why none has been ready yet."""
        if any(row.was_ready for row in self._rows):
            return []
        return _told(self.statuses(now))

    def _stuck(self, index: int, now: float) -> str | None:
        row = self._rows[index]
        if not row.pid:
            return None
        if row.broken:
            return self.reason(index)
        if not row.beat:
            return f"no sign of life in {START_S:.0f} s" if now - row.born > START_S else None
        return f"no heartbeat for {now - row.beat:.0f} s" if now - row.beat > LATE_S else None


def _told(statuses: list[ReplicaStatus]) -> list[str]:
    return [f"replica {each.index}: {each.state}" for each in statuses]


def _short(reason: str) -> bytes:
    return reason.encode()[: REASON_BYTES - 1]
