"""The scheduler: which queue is next, and on which lane."""

import math

import pytest

from app.batching.scheduler import DeviceScheduler


class Queue:
    """A fake queue with batches of the size that a test sets."""

    def __init__(
        self,
        waiting: int = 0,
        deadline: float = 10.0,
        batch_size: int = 1,
        log: list["Queue"] | None = None,
    ) -> None:
        self.log = [] if log is None else log
        self.waiting = waiting
        self.deadline = deadline
        self.batch_size = batch_size
        self.wide_alone, self.wide_only = True, False
        self.prefetch_alone = self.prefetch_shared = False
        self.lanes: list[str] = []

    @property
    def urgency(self) -> float:
        return self.deadline if self.waiting else math.inf

    def prefetch(self, *, shared: bool) -> bool:
        return self.prefetch_shared if shared else self.prefetch_alone

    def send(self, lane: str, *, narrow: bool) -> bool:
        assert narrow is (lane != "wide")
        count = min(self.waiting, self.batch_size)
        self.waiting -= count
        self.lanes.append(lane)
        self.log.append(self)
        return True


@pytest.fixture
def scheduler() -> DeviceScheduler[str]:
    return DeviceScheduler("wide", ["first", "second"])


def arrive(scheduler: DeviceScheduler[str], queue: Queue, count: int = 1) -> None:
    """Let items become ready, one after the other."""
    for _ in range(count):
        queue.waiting += 1
        scheduler.on_arrival(queue)


def test_a_single_item_gets_the_wide_lane(scheduler):
    queue = Queue()
    scheduler.register(queue)
    arrive(scheduler, queue)
    assert queue.lanes == ["wide"]


def test_no_narrow_lane_runs_while_the_wide_lane_does(scheduler):
    queue = Queue()
    scheduler.register(queue)
    arrive(scheduler, queue, 3)
    assert queue.lanes == ["wide"]
    scheduler.on_done(queue, "wide", 0.1)
    assert queue.lanes == ["wide", "first", "second"]


def test_the_wide_lane_does_not_run_while_a_narrow_lane_does(scheduler):
    queue = Queue()
    scheduler.register(queue)
    arrive(scheduler, queue, 4)
    scheduler.on_done(queue, "wide", 0.1)  # two run on the narrow lanes
    scheduler.on_done(queue, "first", 0.1)  # the last item is alone, and runs there, too
    assert queue.lanes == ["wide", "first", "second", "first"]
    scheduler.on_done(queue, "first", 0.1)
    scheduler.on_done(queue, "second", 0.1)
    arrive(scheduler, queue)
    assert queue.lanes[-1] == "wide"


def test_a_network_that_threads_do_not_speed_up_uses_narrow_lanes_only(scheduler):
    queue = Queue()
    queue.wide_alone = False
    scheduler.register(queue)
    arrive(scheduler, queue, 3)
    assert queue.lanes == ["first", "second"]


def test_a_narrow_lane_prefetches_short_batches(scheduler):
    queue = Queue()
    queue.wide_alone, queue.prefetch_alone = False, True
    scheduler.register(queue)
    arrive(scheduler, queue, 6)
    assert queue.lanes == ["first", "second", "first", "second"]
    scheduler.on_done(queue, "second", 0.1)
    assert queue.lanes[4:] == ["second"]


def test_prefetching_depends_on_whether_other_queues_use_the_device(scheduler):
    queue = Queue()
    queue.wide_alone, queue.prefetch_alone = False, True
    scheduler.register(queue)
    unregister = scheduler.register(Queue())
    arrive(scheduler, queue, 6)
    assert queue.lanes == ["first", "second"]
    unregister()
    scheduler.dispatch()
    assert queue.lanes == ["first", "second", "first", "second"]


def test_a_queue_may_use_the_wide_lane_only(scheduler):
    queue = Queue()
    queue.wide_only = True
    scheduler.register(queue)
    arrive(scheduler, queue, 3)
    scheduler.on_done(queue, "wide", 0.1)
    assert queue.lanes == ["wide", "wide"]


def test_a_queue_for_the_wide_lane_is_not_overtaken_while_narrow_lanes_run(scheduler):
    narrow, wide = Queue(deadline=10.0), Queue(deadline=5.0)
    narrow.wide_alone, wide.wide_only = False, True
    for queue in (narrow, wide):
        scheduler.register(queue)
    arrive(scheduler, narrow)
    arrive(scheduler, wide)
    arrive(scheduler, narrow, 2)
    assert (narrow.lanes, wide.lanes) == (["first"], [])
    scheduler.on_done(narrow, "first", 0.1)
    assert (narrow.lanes, wide.lanes) == (["first"], ["wide"])


def test_a_device_without_cores_stages_the_next_batch_while_one_runs():
    scheduler, queue = DeviceScheduler("wide", depth=2), Queue()
    scheduler.register(queue)
    arrive(scheduler, queue, 3)
    assert queue.lanes == ["wide", "wide"]
    scheduler.on_done(queue, "wide", 0.1)
    assert len(queue.lanes) == 3


def test_between_queues_with_equal_device_time_the_nearest_deadline_is_next():
    scheduler, late, soon = (
        DeviceScheduler("wide"),
        Queue(2, deadline=20.0),
        Queue(1, deadline=10.0),
    )
    for queue in (late, soon):
        scheduler.register(queue)
    scheduler.dispatch()
    assert (late.lanes, len(soon.lanes)) == ([], 1)


def run(
    scheduler: DeviceScheduler[str], log: list[Queue], seconds: dict[Queue, float], batches: int
) -> None:
    """Run batches on the wide lane, with the duration of their queue's batches."""
    for _ in range(batches):
        scheduler.on_done(log[-1], "wide", seconds[log[-1]])


def test_a_model_with_costly_batches_cannot_starve_another():
    scheduler, log = DeviceScheduler("wide"), []
    costly, cheap = Queue(1000, log=log), Queue(1000, log=log)
    for queue in (costly, cheap):
        scheduler.register(queue)
    scheduler.dispatch()
    run(scheduler, log, {costly: 1.0, cheap: 0.1}, 220)
    assert log.count(costly) * 1.0 == pytest.approx(log.count(cheap) * 0.1, abs=1.2)


def test_a_near_deadline_does_not_outweigh_device_time():
    scheduler, log = DeviceScheduler("wide"), []
    soon, late = Queue(100, deadline=1.0, log=log), Queue(100, deadline=1000.0, log=log)
    for queue in (soon, late):
        scheduler.register(queue)
    scheduler.dispatch()
    run(scheduler, log, {soon: 1.0, late: 1.0}, 7)
    assert len(log) == 8
    assert log.count(late) == pytest.approx(4, abs=1)


def test_idle_time_gives_a_queue_no_advantage():
    scheduler, log = DeviceScheduler("wide"), []
    steady, guest = Queue(100, log=log), Queue(log=log)
    for queue in (steady, guest):
        scheduler.register(queue)
    scheduler.dispatch()
    run(scheduler, log, {steady: 1.0}, 50)  # the guest is idle meanwhile
    arrive(scheduler, guest)
    guest.waiting += 10
    run(scheduler, log, {steady: 1.0, guest: 1.0}, 8)
    assert log[-8:].count(guest) == pytest.approx(4, abs=1)


def test_a_queue_with_nothing_to_send_does_not_occupy_the_lane(scheduler):
    class Expired(Queue):
        def send(self, lane: str, *, narrow: bool) -> bool:
            super().send(lane, narrow=narrow)
            return False

    expired, queue = Expired(deadline=1.0), Queue()
    scheduler.register(expired)
    scheduler.register(queue)
    arrive(scheduler, expired)
    arrive(scheduler, queue)
    assert (expired.lanes, queue.lanes) == (["wide"], ["wide"])


def test_a_queue_that_has_unregistered_gets_no_lane(scheduler):
    queue = Queue(waiting=1)
    unregister = scheduler.register(queue)
    unregister()
    unregister()
    scheduler.dispatch()
    assert queue.lanes == []


def test_every_queue_is_asked_for_its_items_once_a_round(scheduler):
    class Counting(Queue):
        asked = 0

        @property
        def waiting(self) -> int:
            self.asked += 1
            return self._count

        @waiting.setter
        def waiting(self, count: int) -> None:
            self._count = count

    queues = [Counting(), Counting()]
    for queue in queues:
        scheduler.register(queue)
    queues[0].waiting = 1
    queues[0].asked = 0
    scheduler.on_arrival(queues[0])
    assert queues[0].lanes == ["wide"]
    sending = 2  # `send` of the fake reads the count twice
    assert [queue.asked for queue in queues] == [2 + sending, 2]
