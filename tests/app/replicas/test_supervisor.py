"""The supervisor: which replica it restarts, when, and how it stops all of them."""

import logging
import signal
from itertools import pairwise

import pytest

from app.core.process import DRAIN_SIGNAL, RUN_FAILED, ExitReason
from app.replicas.heartbeats import LATE_S, START_S, HeartbeatTable
from app.replicas.supervisor import (
    MAX_DELAY_S,
    MAX_FAILED_STARTS,
    STABLE_S,
    TICK_S,
    Backoff,
    Supervisor,
)

STOP_TIMEOUT_S = 20.0


class FakeChild:
    """A process that ends when it is asked to, unless `ignores_terminate`."""

    def __init__(self, pid):
        self.pid, self.sentinel, self.exitcode = pid, pid, None
        self.ignores_terminate = False
        self.joined = False

    def terminate(self):
        if not self.ignores_terminate:
            self.exitcode = -DRAIN_SIGNAL

    def kill(self):
        if self.exitcode is None:
            self.exitcode = -signal.SIGKILL

    def join(self, timeout=None):
        assert self.exitcode is not None
        self.joined = True


class Simulation:
    """A supervisor of fake processes, a clock that moves by a tick, and actions at ticks."""

    def __init__(self, count=2):
        self.now = 1000.0
        self.count = count
        self.table = HeartbeatTable(count)
        self.spawned: list[tuple[int, FakeChild, float]] = []
        self.exits: list[int] = []
        self.stops: list[float] = []
        self.actions: dict[int, list] = {}
        self.ticks = 0
        self.beats = True
        self.supervisor = Supervisor(
            self.spawn,
            self.table,
            stop_timeout_s=STOP_TIMEOUT_S,
            on_stop=lambda: self.stops.append(self.now),
            on_exit=self.exits.append,
            clock=lambda: self.now,
            pause=self.pause,
        )

    def spawn(self, index):
        child = FakeChild(100 + len(self.spawned))
        self.spawned.append((index, child, self.now))
        return child

    def child(self, index):
        """The latest process of an index."""
        return [child for at, child, _ in self.spawned if at == index][-1]

    def start_times(self, index):
        return [now for at, _, now in self.spawned if at == index]

    def at(self, tick, action):
        self.actions.setdefault(tick, []).append(action)

    def pause(self, sentinels, seconds):
        assert set(sentinels) <= {child.pid for _, child, _ in self.spawned}
        self.now += seconds
        self.ticks += 1
        for action in self.actions.pop(self.ticks, ()):
            action()
        for index in range(self.count if self.beats else 0):
            if any(at == index for at, *_ in self.spawned) and self.child(index).exitcode is None:
                self.table.beat(index, self.now, None, None)

    def run(self, ticks):
        return self.supervisor.run(lambda: self.ticks >= ticks)


def test_all_replicas_are_started_and_finally_stopped():
    sim = Simulation(3)
    assert sim.run(4) is None
    assert [index for index, *_ in sim.spawned] == [0, 1, 2]
    assert all(child.exitcode == -DRAIN_SIGNAL and child.joined for _, child, _ in sim.spawned)
    assert sim.stops == [sim.now]


def test_a_killed_replica_is_restarted_at_once_and_the_others_keep_running(caplog):
    sim = Simulation()
    sim.at(3, lambda: sim.child(1).kill())
    assert sim.run(6) is None
    assert len(sim.start_times(0)) == 1
    first, second = sim.start_times(1)
    assert second - first <= 5 * TICK_S
    assert sim.exits == [1]
    assert sim.table.status(1, sim.now).restarts == 1
    assert "replica 1 ended by SIGKILL" in caplog.text


@pytest.mark.parametrize("broken", [None, "the thread of cpu is stuck"])
def test_a_stuck_replica_is_killed_and_restarted(caplog, broken):
    sim = Simulation()

    def stick():
        sim.beats = False
        sim.table.beat(0, sim.now + (0 if broken else -LATE_S), broken, broken)
        sim.table.beat(1, sim.now + LATE_S, None, None)

    sim.at(3, stick)
    sim.run(8)
    assert len(sim.start_times(0)) == 2
    assert len(sim.start_times(1)) == 1
    assert "replica 0 is stuck" in caplog.text


def test_a_stuck_replica_that_takes_long_to_die_is_reported_once(caplog):
    sim = Simulation(1)
    sim.at(2, lambda: setattr(sim.child(0), "kill", lambda: None))
    sim.at(3, lambda: setattr(sim, "beats", False))
    sim.at(3, lambda: sim.table.beat(0, sim.now, "broken", "broken"))
    sim.run(10)
    assert caplog.text.count("replica 0 is stuck") == 1


def test_a_replica_without_a_first_heartbeat_is_killed(caplog):
    sim = Simulation(1)
    sim.beats = False
    sim.run(round(START_S / TICK_S) + 6)
    assert len(sim.start_times(0)) == 2
    assert "no heartbeat within" in caplog.text


def test_after_a_suspended_machine_no_replica_counts_as_stuck():
    sim = Simulation(1)

    def suspend():
        sim.now += 1000
        sim.beats = False

    def resume():
        sim.beats = True

    sim.at(3, suspend)
    sim.at(5, resume)
    sim.run(60)
    assert len(sim.start_times(0)) == 1


def test_a_replica_that_fails_repeatedly_is_restarted_after_growing_delays():
    sim = Simulation(1)
    for tick in range(2, 400):  # by then it has been ready
        sim.at(tick, lambda: sim.child(0).kill())
    sim.run(400)
    times = sim.start_times(0)
    delays = [later - earlier for earlier, later in pairwise(times)]
    assert delays == sorted(delays)
    assert delays[0] <= 3 * TICK_S
    assert delays[-1] >= MAX_DELAY_S


def test_delays_grow_to_a_limit_and_restart_after_a_stable_time():
    backoff = Backoff()
    assert [backoff.next_delay(0.0) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.next_delay(STABLE_S) == 0
    assert backoff.next_delay(STABLE_S - 1) == 1


def fail_to_load(sim, reason="cannot load: no such folder"):
    sim.beats = False
    sim.table.fail(0, reason)
    sim.child(0).exitcode = 3


def test_a_replica_that_cannot_load_before_any_was_ready_ends_the_service():
    sim = Simulation()
    sim.at(1, lambda: fail_to_load(sim))
    assert sim.run(100) == ExitReason("cannot load: no such folder", 3)
    assert sim.child(1).exitcode == -DRAIN_SIGNAL
    assert sim.ticks < 5


def test_a_replica_that_fails_to_load_without_a_reason_refers_to_the_log():
    sim = Simulation()
    sim.at(1, lambda: fail_to_load(sim, ""))
    failure = sim.run(100)
    assert failure is not None
    assert failure.reason == "replica 0 ended with status 3; see the log"


def test_a_replica_that_cannot_load_later_is_restarted_while_the_others_serve():
    sim = Simulation()

    def kill():
        sim.child(0).kill()

    sim.at(3, kill)
    sim.at(5, lambda: fail_to_load(sim))
    assert sim.run(20) is None
    assert len(sim.start_times(0)) == 3


def test_a_replica_that_breaks_before_its_first_ready_heartbeat_is_restarted():
    sim = Simulation()
    sim.beats = False
    sim.at(1, lambda: setattr(sim.child(0), "exitcode", RUN_FAILED))
    assert sim.run(5) is None
    assert len(sim.start_times(0)) == 2


def test_a_replica_that_is_killed_at_every_load_ends_the_service():
    sim = Simulation()
    sim.beats = False
    for tick in range(100):
        sim.at(tick, lambda: sim.spawned and sim.child(0).kill())
    assert sim.run(100) == ExitReason("replica 0 ended by SIGKILL while loading, 3 times", 1)
    assert len(sim.start_times(0)) == MAX_FAILED_STARTS


class Refusals:
    """A spawn function that fails a number of times from a call on."""

    def __init__(self, spawn, first, count):
        self._spawn, self._calls, self._failing = spawn, 0, range(first, first + count)

    def __call__(self, index):
        self._calls += 1
        if self._calls - 1 in self._failing:
            raise OSError(11, "Resource temporarily unavailable")
        return self._spawn(index)


def test_a_process_that_cannot_be_started_is_tried_again_while_the_others_serve(caplog):
    sim = Simulation()
    sim.supervisor._spawn = Refusals(sim.spawn, 2, MAX_FAILED_STARTS + 1)
    sim.at(3, lambda: sim.child(1).kill())
    assert sim.run(100) is None
    assert len(sim.start_times(0)) == 1
    assert len(sim.start_times(1)) == 2
    assert "cannot start replica 1: [Errno 11] Resource temporarily unavailable" in caplog.text


def test_if_no_process_can_be_started_the_service_ends_with_the_reason():
    sim = Simulation(1)
    sim.supervisor._spawn = Refusals(sim.spawn, 0, 100)
    reason = "cannot start replica 0: [Errno 11] Resource temporarily unavailable"
    assert sim.run(100) == ExitReason(reason, 1)


def test_the_ready_time_counts_although_the_last_heartbeat_was_not_ready():
    sim = Simulation(1)

    def break_down():
        sim.beats = False
        sim.table.beat(0, sim.now, "the service cannot go on", None)
        sim.child(0).exitcode = RUN_FAILED

    def recover():
        sim.beats = True

    sim.at(2, break_down)
    sim.at(4, recover)
    stable = round(STABLE_S / TICK_S) + 10
    sim.at(stable, break_down)
    sim.run(stable + 4)
    second, third = sim.start_times(0)[1:]
    assert third - second == pytest.approx((stable - 2) * TICK_S, abs=4 * TICK_S)


def test_a_replica_that_fails_during_shutdown_is_logged_and_not_restarted(caplog):
    sim = Simulation()
    sim.at(1, lambda: setattr(sim.child(1), "ignores_terminate", True))
    sim.at(4, lambda: sim.child(1).kill())
    assert sim.run(2) is None
    assert len(sim.start_times(1)) == 1
    assert "replica 1 ended by SIGKILL during shutdown" in caplog.text


def test_a_replica_that_does_not_stop_in_time_is_killed():
    sim = Simulation()
    sim.at(1, lambda: setattr(sim.child(1), "ignores_terminate", True))
    began = sim.now
    sim.run(2)
    assert sim.child(0).exitcode == -DRAIN_SIGNAL
    assert sim.child(1).exitcode == -signal.SIGKILL
    assert STOP_TIMEOUT_S <= sim.now - began <= STOP_TIMEOUT_S + 2


def test_the_second_signal_kills_all_replicas_at_once():
    sim = Simulation()

    def interrupt():
        raise KeyboardInterrupt

    sim.at(2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        sim.run(100)
    assert {child.exitcode for _, child, _ in sim.spawned} == {-signal.SIGKILL}


def test_the_parent_writes_heartbeats_while_it_waits_for_the_last_replica():
    sim = Simulation(1)
    sim.at(1, lambda: setattr(sim.child(0), "ignores_terminate", True))
    sim.at(60, lambda: sim.child(0).kill())
    sim.run(2)
    assert sim.table.reasons_dead(sim.now) == []


def test_a_restart_without_a_delay_is_logged(caplog):
    caplog.set_level(logging.ERROR)
    sim = Simulation(1)
    sim.at(2, lambda: setattr(sim.child(0), "exitcode", 0))
    sim.run(5)
    assert "ended with status 0; restarting it in 0 s" in caplog.text
