"""The lives of the replicas: who is started anew, when, and how all end."""

import logging
import signal
from itertools import pairwise

import pytest

from app.core.process import DRAIN_SIGNAL, RUN_FAILED, ExitReason
from app.replicas.heartbeats import LATE_S, START_S, HeartbeatTable
from app.replicas.supervisor import (
    LONGEST_PAUSE_S,
    MAX_FAILED_STARTS,
    STABLE_S,
    TICK_S,
    Backoff,
    Supervisor,
)

LEAVE_S = 20.0


class FakeChild:
    """A process that ends when it is told to, unless it is deaf."""

    def __init__(self, pid, deaf=False):
        self.pid, self.sentinel, self.exitcode = pid, pid, None
        self.discard_input = deaf
        self.joined = False

    def terminate(self):
        if not self.discard_input:
            self.exitcode = -DRAIN_SIGNAL

    def kill(self):
        if self.exitcode is None:
            self.exitcode = -signal.SIGKILL

    def join(self, timeout=None):
        assert self.exitcode is not None
        self.joined = True


class Household:
    """Replicas, a clock that each wait moves by a tick, and what happens at which tick."""

    def __init__(self, count=2):
        self.now = 1000.0
        self.count = count
        self.table = HeartbeatTable(count)
        self.born: list[tuple[int, FakeChild, float]] = []
        self.dead: list[int] = []
        self.left: list[float] = []
        self.happenings: dict[int, list] = {}
        self.ticks = 0
        self.beats = True
        self.replicas = Supervisor(
            self.spawn,
            self.table,
            leave_s=LEAVE_S,
            on_leave=lambda: self.left.append(self.now),
            on_death=self.dead.append,
            clock=lambda: self.now,
            pause=self.pause,
        )

    def spawn(self, index):
        child = FakeChild(100 + len(self.born))
        self.born.append((index, child, self.now))
        return child

    def child(self, index):
        """The latest of an index."""
        return [child for at, child, _ in self.born if at == index][-1]

    def births(self, index):
        return [now for at, _, now in self.born if at == index]

    def at(self, tick, action):
        self.happenings.setdefault(tick, []).append(action)

    def pause(self, sentinels, seconds):
        assert set(sentinels) <= {child.pid for _, child, _ in self.born}
        self.now += seconds
        self.ticks += 1
        for action in self.happenings.pop(self.ticks, ()):
            action()
        for index in range(self.count if self.beats else 0):
            if any(at == index for at, *_ in self.born) and self.child(index).exitcode is None:
                self.table.beat(index, self.now, None, None)

    def run(self, ticks):
        return self.replicas.run(lambda: self.ticks >= ticks)


def test_all_are_started_and_when_told_all_leave():
    house = Household(3)
    assert house.run(4) is None
    assert [index for index, *_ in house.born] == [0, 1, 2]
    assert all(child.exitcode == -DRAIN_SIGNAL and child.joined for _, child, _ in house.born)
    assert house.left == [house.now]


def test_a_killed_replica_is_started_anew_at_once_and_the_others_are_left_alone(caplog):
    house = Household()
    house.at(3, lambda: house.child(1).kill())
    assert house.run(6) is None
    assert len(house.births(0)) == 1
    first, second = house.births(1)
    assert second - first <= 5 * TICK_S
    assert house.dead == [1]
    assert house.table.status(1, house.now).restarts == 1
    assert "replica 1 ended by SIGKILL" in caplog.text


@pytest.mark.parametrize("broken", [None, "the thread of cpu is stuck"])
def test_a_stuck_replica_is_ended_and_started_anew(caplog, broken):
    house = Household()

    def stick():
        house.beats = False
        house.table.beat(0, house.now + (0 if broken else -LATE_S), broken, broken)
        house.table.beat(1, house.now + LATE_S, None, None)

    house.at(3, stick)
    house.run(8)
    assert len(house.births(0)) == 2
    assert len(house.births(1)) == 1
    assert "replica 0 is stuck" in caplog.text


def test_a_replica_without_any_sign_of_life_is_ended(caplog):
    house = Household(1)
    house.beats = False
    house.run(round(START_S / TICK_S) + 6)
    assert len(house.births(0)) == 2
    assert "no sign of life" in caplog.text


def test_after_a_sleep_of_the_whole_machine_nobody_is_taken_for_stuck():
    house = Household(1)

    def sleep():
        house.now += 1000
        house.beats = False

    def wake():
        house.beats = True

    house.at(3, sleep)
    house.at(5, wake)
    house.run(60)
    assert len(house.births(0)) == 1


def test_who_dies_again_and_again_is_started_ever_later():
    house = Household(1)
    for tick in range(2, 400):  # by then it has been ready
        house.at(tick, lambda: house.child(0).kill())
    house.run(400)
    births = house.births(0)
    pauses = [later - earlier for earlier, later in pairwise(births)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= 3 * TICK_S
    assert pauses[-1] >= LONGEST_PAUSE_S


def test_pauses_grow_to_a_limit_and_a_long_life_forgives():
    pauses = Backoff()
    assert [pauses.after_death(0.0) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert pauses.after_death(STABLE_S) == 0
    assert pauses.after_death(STABLE_S - 1) == 1


def give_up(house, reason="cannot load: no such folder"):
    house.beats = False
    house.table.fail(0, reason)
    house.child(0).exitcode = 3


def test_a_replica_that_cannot_load_at_first_ends_all_with_its_status():
    house = Household()
    house.at(1, lambda: give_up(house))
    assert house.run(100) == ExitReason("cannot load: no such folder", 3)
    assert house.child(1).exitcode == -DRAIN_SIGNAL
    assert house.ticks < 5


def test_one_that_ends_without_a_word_at_its_start_is_told_as_such():
    house = Household()
    house.at(1, lambda: give_up(house, ""))
    failure = house.run(100)
    assert failure is not None
    assert failure.reason == "replica 0 ended with status 3; the log says why"


def test_one_that_cannot_load_later_is_tried_again_while_the_others_serve():
    house = Household()

    def fall():
        house.child(0).kill()

    house.at(3, fall)
    house.at(5, lambda: give_up(house))
    assert house.run(20) is None
    assert len(house.births(0)) == 3


def test_one_that_cannot_go_on_before_it_was_seen_ready_is_started_anew():
    house = Household()
    house.beats = False
    house.at(1, lambda: setattr(house.child(0), "exitcode", RUN_FAILED))
    assert house.run(5) is None
    assert len(house.births(0)) == 2


def test_one_that_is_killed_whenever_it_loads_ends_all():
    house = Household()
    house.beats = False
    for tick in range(100):
        house.at(tick, lambda: house.born and house.child(0).kill())
    assert house.run(100) == ExitReason("replica 0 ended by SIGKILL while it loaded, 3 times", 1)
    assert len(house.births(0)) == MAX_FAILED_STARTS


def test_how_long_one_had_been_ready_counts_though_it_said_why_it_ends():
    house = Household(1)

    def cannot_go_on():
        house.beats = False
        house.table.beat(0, house.now, "the service cannot go on", None)
        house.child(0).exitcode = RUN_FAILED

    def go_on():
        house.beats = True

    house.at(2, cannot_go_on)
    house.at(4, go_on)
    stable = round(STABLE_S / TICK_S) + 10
    house.at(stable, cannot_go_on)
    house.run(stable + 4)
    second, third = house.births(0)[1:]
    assert third - second == pytest.approx((stable - 2) * TICK_S, abs=4 * TICK_S)


def test_one_that_dies_while_all_leave_is_told_and_not_started_anew(caplog):
    house = Household()
    house.at(1, lambda: setattr(house.child(1), "deaf", True))
    house.at(4, lambda: house.child(1).kill())
    assert house.run(2) is None
    assert len(house.births(1)) == 1
    assert "replica 1 ended by SIGKILL while it left" in caplog.text


def test_who_does_not_leave_in_time_is_killed():
    house = Household()
    house.at(1, lambda: setattr(house.child(1), "deaf", True))
    began = house.now
    house.run(2)
    assert house.child(0).exitcode == -DRAIN_SIGNAL
    assert house.child(1).exitcode == -signal.SIGKILL
    assert LEAVE_S <= house.now - began <= LEAVE_S + 2


def test_the_second_signal_kills_all_at_once():
    house = Household()

    def interrupt():
        raise KeyboardInterrupt

    house.at(2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        house.run(100)
    assert {child.exitcode for _, child, _ in house.born} == {-signal.SIGKILL}


def test_the_parent_beats_while_it_waits_for_the_last_to_leave():
    house = Household(1)
    house.at(1, lambda: setattr(house.child(0), "deaf", True))
    house.at(60, lambda: house.child(0).kill())
    house.run(2)
    assert house.table.reasons_dead(house.now) == []


def test_a_pause_of_nothing_is_logged_as_such(caplog):
    caplog.set_level(logging.ERROR)
    house = Household(1)
    house.at(2, lambda: setattr(house.child(0), "exitcode", 0))
    house.run(5)
    assert "ended with status 0; it is started anew in 0 s" in caplog.text
