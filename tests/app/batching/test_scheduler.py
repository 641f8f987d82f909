"""Whose turn it is on a device, and on which lane."""

import math

import pytest

from app.batching.scheduler import DeviceScheduler


class Crowd:
    """A queue of items that are sent one by one, or as many at once as a test says."""

    def __init__(
        self,
        waiting: int = 0,
        deadline: float = 10.0,
        at_once: int = 1,
        log: list["Crowd"] | None = None,
    ) -> None:
        self.log = [] if log is None else log
        self.waiting = waiting
        self.deadline = deadline
        self.at_once = at_once
        self.wide_alone, self.wide_only = True, False
        self.ahead_alone = self.ahead_shared = False
        self.lanes: list[str] = []

    @property
    def urgency(self) -> float:
        return self.deadline if self.waiting else math.inf

    def prefetch(self, *, shared: bool) -> bool:
        return self.ahead_shared if shared else self.ahead_alone

    def send(self, lane: str, *, narrow: bool) -> bool:
        assert narrow is (lane != "wide")
        taken = min(self.waiting, self.at_once)
        self.waiting -= taken
        self.lanes.append(lane)
        self.log.append(self)
        return True


@pytest.fixture
def device() -> DeviceScheduler[str]:
    return DeviceScheduler("wide", ["first", "second"])


def arrive(device: DeviceScheduler[str], queue: Crowd, count: int = 1) -> None:
    for _ in range(count):
        queue.waiting += 1
        device.on_arrival(queue)


def test_one_that_is_alone_has_the_whole_device(device):
    queue = Crowd()
    device.register(queue)
    arrive(device, queue)
    assert queue.lanes == ["wide"]


def test_nothing_runs_beside_the_wide_lane(device):
    queue = Crowd()
    device.register(queue)
    arrive(device, queue, 3)
    assert queue.lanes == ["wide"]
    device.on_done(queue, "wide", 0.1)
    assert queue.lanes == ["wide", "first", "second"]


def test_the_wide_lane_does_not_run_beside_a_narrow_one(device):
    queue = Crowd()
    device.register(queue)
    arrive(device, queue, 4)
    device.on_done(queue, "wide", 0.1)  # two go to the narrow lanes
    device.on_done(queue, "first", 0.1)  # the last one, alone, follows there
    assert queue.lanes == ["wide", "first", "second", "first"]
    device.on_done(queue, "first", 0.1)
    device.on_done(queue, "second", 0.1)
    arrive(device, queue)
    assert queue.lanes[-1] == "wide"


def test_a_network_that_threads_do_not_speed_up_leaves_the_other_cores_free(device):
    queue = Crowd()
    queue.wide_alone = False
    device.register(queue)
    arrive(device, queue, 3)
    assert queue.lanes == ["first", "second"]


def test_a_narrow_lane_has_short_batches_at_hand(device):
    queue = Crowd()
    queue.wide_alone, queue.ahead_alone = False, True
    device.register(queue)
    arrive(device, queue, 6)
    assert queue.lanes == ["first", "second", "first", "second"]
    device.on_done(queue, "second", 0.1)
    assert queue.lanes[4:] == ["second"]


def test_what_is_at_hand_depends_on_whether_others_use_the_device(device):
    queue = Crowd()
    queue.wide_alone, queue.ahead_alone = False, True
    device.register(queue)
    leave = device.register(Crowd())
    arrive(device, queue, 6)
    assert queue.lanes == ["first", "second"]
    leave()
    device.dispatch()
    assert queue.lanes == ["first", "second", "first", "second"]


def test_a_queue_may_have_no_use_for_narrow_lanes(device):
    queue = Crowd()
    queue.wide_only = True
    device.register(queue)
    arrive(device, queue, 3)
    device.on_done(queue, "wide", 0.1)
    assert queue.lanes == ["wide", "wide"]


def test_it_waits_for_the_narrow_lanes_rather_than_be_passed_over_for_ever(device):
    cores, whole = Crowd(deadline=10.0), Crowd(deadline=5.0)
    cores.wide_alone, whole.wide_only = False, True
    for queue in (cores, whole):
        device.register(queue)
    arrive(device, cores)
    arrive(device, whole)
    arrive(device, cores, 2)
    assert (cores.lanes, whole.lanes) == (["first"], [])
    device.on_done(cores, "first", 0.1)
    assert (cores.lanes, whole.lanes) == (["first"], ["wide"])


def test_a_device_without_cores_stages_the_next_batch_behind_the_one_that_runs():
    device, queue = DeviceScheduler("wide", depth=2), Crowd()
    device.register(queue)
    arrive(device, queue, 3)
    assert queue.lanes == ["wide", "wide"]
    device.on_done(queue, "wide", 0.1)
    assert len(queue.lanes) == 3


def test_the_nearest_deadline_has_its_turn_first():
    device, late, soon = DeviceScheduler("wide"), Crowd(2, deadline=20.0), Crowd(1, deadline=10.0)
    for queue in (late, soon):
        device.register(queue)
    device.dispatch()
    assert (late.lanes, len(soon.lanes)) == ([], 1)


def run(
    device: DeviceScheduler[str], log: list[Crowd], seconds: dict[Crowd, float], batches: int
) -> None:
    """Let a device of one lane run so many batches, each as long as its queue's are."""
    for _ in range(batches):
        device.on_done(log[-1], "wide", seconds[log[-1]])


def test_a_model_with_costly_batches_cannot_starve_another():
    device, log = DeviceScheduler("wide"), []
    costly, cheap = Crowd(1000, log=log), Crowd(1000, log=log)
    for queue in (costly, cheap):
        device.register(queue)
    device.dispatch()
    run(device, log, {costly: 1.0, cheap: 0.1}, 220)
    assert log.count(costly) * 1.0 == pytest.approx(log.count(cheap) * 0.1, abs=1.2)


def test_having_been_idle_is_no_credit():
    device, log = DeviceScheduler("wide"), []
    steady, guest = Crowd(100, log=log), Crowd(log=log)
    for queue in (steady, guest):
        device.register(queue)
    device.dispatch()
    run(device, log, {steady: 1.0}, 50)  # the guest was away all that time
    arrive(device, guest)
    guest.waiting += 10
    run(device, log, {steady: 1.0, guest: 1.0}, 8)
    assert log[-8:].count(guest) == pytest.approx(4, abs=1)


def test_a_queue_that_found_nothing_to_send_does_not_hold_the_lane(device):
    class Expired(Crowd):
        def send(self, lane: str, *, narrow: bool) -> bool:
            super().send(lane, narrow=narrow)
            return False

    expired, queue = Expired(deadline=1.0), Crowd()
    device.register(expired)
    device.register(queue)
    arrive(device, expired)
    arrive(device, queue)
    assert (expired.lanes, queue.lanes) == (["wide"], ["wide"])


def test_a_queue_that_left_has_no_turn_any_more(device):
    queue = Crowd(waiting=1)
    leave = device.register(queue)
    leave()
    leave()
    device.dispatch()
    assert queue.lanes == []
