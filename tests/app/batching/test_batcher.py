"""The queue: order, identity, deadlines, overload, leaving."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from app.batching.batcher import Batcher
from app.batching.costs import CostTable
from app.batching.scheduler import DeviceScheduler
from app.core.errors import DeadlineExceeded, Internal, InvalidImage, NotReady

pytestmark = pytest.mark.anyio
Take = Callable[[], Sequence[str]]
ERRORS = {"damaged": InvalidImage("damaged"), "broken": ValueError("broken")}


class Runner:
    """Runs batches behind a gate: each waits until the test opens it."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.lanes: list[str] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        if is_open:
            self.gate.set()

    def send(self, lane: str, take: Take) -> asyncio.Future[list[str | Exception]]:
        return asyncio.ensure_future(self._run(lane, take))

    async def _run(self, lane: str, take: Take) -> list[str | Exception]:
        items = take()
        self.batches.append(list(items))
        self.lanes.append(lane)
        self.entered.set()
        await self.gate.wait()
        if "poison" in items:
            raise ValueError("poison")
        return [ERRORS.get(item) or item.upper() for item in items]


def batcher(runner: Runner, **changes) -> Batcher[str, str, str]:
    options = {
        "scheduler": DeviceScheduler("wide"),
        "max_batch_size": 4,
        "max_queue_size": 8,
    } | changes
    return Batcher(runner.send, **options)


def later(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def send(
    queue: Batcher[str, str, str], item: str, key: str = "k", seconds: float = 60
) -> str:
    with queue.admission.reserve(later(seconds)) as ticket:
        return await queue.run(ticket, item, key)


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_lone_item_is_run_at_once():
    runner = Runner()
    async with batcher(runner) as queue:
        assert await send(queue, "a") == "A"
    assert runner.batches == [["a"]]


async def test_items_that_wait_for_the_device_share_the_next_batch():
    runner = Runner(is_open=False)
    async with batcher(runner) as queue, asyncio.TaskGroup() as group:
        first = group.create_task(send(queue, "a"))
        await runner.entered.wait()
        rest = [group.create_task(send(queue, item)) for item in "bcdef"]
        await settle()
        runner.gate.set()
    assert runner.batches == [["a"], ["b", "c", "d", "e"], ["f"]]
    assert [first.result(), *(task.result() for task in rest)] == list("ABCDEF")


async def test_everyone_gets_their_own_answer_however_many_ask():
    runner = Runner()
    async with batcher(runner, max_queue_size=1000) as queue:
        items = [f"item {i}" for i in range(500)]
        answers = await asyncio.gather(*(send(queue, item, key=item[-1]) for item in items))
    assert answers == [item.upper() for item in items]


async def test_only_equal_keys_share_a_batch():
    runner = Runner(is_open=False)
    async with batcher(runner) as queue, asyncio.TaskGroup() as group:
        group.create_task(send(queue, "first"))
        await runner.entered.wait()
        for item, key in [("a", "small"), ("B", "large"), ("c", "small")]:
            group.create_task(send(queue, item, key))
        await settle()
        runner.gate.set()
    assert runner.batches == [["first"], ["a", "c"], ["B"]]


async def test_the_nearest_deadline_goes_first():
    runner = Runner(is_open=False)
    async with batcher(runner, max_batch_size=1) as queue, asyncio.TaskGroup() as group:
        group.create_task(send(queue, "first"))
        await runner.entered.wait()
        for item, seconds in [("late", 50), ("soon", 10), ("middle", 30)]:
            group.create_task(send(queue, item, seconds=seconds))
        await settle()
        runner.gate.set()
    assert runner.batches == [["first"], ["soon"], ["middle"], ["late"]]


async def test_an_expired_item_never_reaches_the_device():
    runner = Runner(is_open=False)
    async with batcher(runner) as queue, asyncio.TaskGroup() as group:
        group.create_task(send(queue, "first"))
        await runner.entered.wait()
        with queue.admission.reserve(later(0.01)) as ticket:
            late = asyncio.ensure_future(queue.run(ticket, "late", "k"))
            await asyncio.sleep(0.02)  # its deadline is a time
            runner.gate.set()
            with pytest.raises(DeadlineExceeded):
                await late
    assert runner.batches == [["first"]]


async def test_an_item_whose_caller_left_never_reaches_the_device():
    runner = Runner(is_open=False)
    async with batcher(runner) as queue, asyncio.TaskGroup() as group:
        group.create_task(send(queue, "first"))
        await runner.entered.wait()
        left = asyncio.create_task(send(queue, "left"))
        stays = group.create_task(send(queue, "stays"))
        await settle()
        left.cancel()
        await settle()
        assert queue.admission.depth == 1
        runner.gate.set()
        assert await stays == "STAYS"
    assert runner.batches == [["first"], ["stays"]]


async def test_a_caller_that_leaves_in_mid_batch_harms_nobody():
    runner = Runner(is_open=False)
    async with batcher(runner) as queue:
        left = asyncio.create_task(send(queue, "left"))
        await runner.entered.wait()
        left.cancel()
        await settle()
        runner.gate.set()
        assert await send(queue, "next") == "NEXT"


async def test_a_failed_batch_tells_its_callers_and_the_queue_goes_on():
    runner = Runner()
    async with batcher(runner) as queue:
        with pytest.raises(Internal) as failed:
            await send(queue, "poison")
        assert isinstance(failed.value.__cause__, ValueError)
        assert await send(queue, "a") == "A"
        assert queue.admission.depth == 0


async def test_one_bad_item_fails_alone():
    runner = Runner(is_open=False)
    async with batcher(runner) as queue:
        held = asyncio.create_task(send(queue, "held"))
        await runner.entered.wait()
        tasks = [asyncio.create_task(send(queue, item)) for item in ("a", "damaged", "broken")]
        await settle()
        runner.gate.set()
        good, damaged, broken = await asyncio.gather(*tasks, return_exceptions=True)
        await held
    assert good == "A"
    assert damaged is ERRORS["damaged"]
    assert isinstance(broken, Internal)
    assert broken.__cause__ is ERRORS["broken"]


async def test_a_missing_result_fails_the_batch_instead_of_shifting_answers():
    def short(lane: str, take: Take) -> asyncio.Future[list[str]]:
        future = asyncio.get_running_loop().create_future()
        future.set_result([item.upper() for item in take()][:-1])
        return future

    scheduler = DeviceScheduler("wide")
    async with Batcher(short, scheduler=scheduler, max_batch_size=4, max_queue_size=8) as queue:
        with pytest.raises(Internal):
            await send(queue, "a")


async def test_batchers_of_one_device_take_turns():
    runner, scheduler = Runner(is_open=False), DeviceScheduler("wide")
    async with (
        batcher(runner, scheduler=scheduler) as one,
        batcher(runner, scheduler=scheduler) as other,
    ):
        held = asyncio.create_task(send(one, "held"))
        await runner.entered.wait()
        answers = [
            asyncio.create_task(send(queue, item))
            for queue, item in [(one, "a"), (one, "b"), (other, "x"), (other, "y")]
        ]
        await settle()
        assert runner.batches == [["held"]]
        runner.gate.set()
        assert await asyncio.gather(*answers) == ["A", "B", "X", "Y"]
        await held
    assert sorted(runner.batches[1:]) == [["a", "b"], ["x", "y"]]


async def test_of_a_crowd_each_narrow_lane_has_a_batch_to_run_and_one_to_wait():
    runner, scheduler = Runner(is_open=False), DeviceScheduler("wide", ["first", "second"])
    async with batcher(runner, scheduler=scheduler) as queue:
        queue.measured(CostTable({1: 0.2}, {1: 0.3, 8: 0.6}, lanes=2))
        held = asyncio.create_task(send(queue, "held"))
        await runner.entered.wait()
        rest = [asyncio.create_task(send(queue, item)) for item in "abcdefgh"]
        await settle()
        runner.gate.set()
        await asyncio.gather(held, *rest)
    assert runner.lanes[:3] == ["wide", "first", "second"]
    assert runner.batches[:3] == [["held"], ["a", "b"], ["c", "d"]]


async def test_a_batch_that_waited_on_its_lane_is_not_charged_with_that():
    gates = [asyncio.Event(), asyncio.Event()]
    taken, order = [], iter(gates)

    async def run(items: Sequence[str], gate: asyncio.Event) -> list[str]:
        await gate.wait()
        return list(items)

    def send_on(lane: str, take: Take) -> asyncio.Future[list[str]]:
        return asyncio.ensure_future(run(take(), next(order)))

    scheduler = DeviceScheduler("wide", depth=2)
    options = {"scheduler": scheduler, "max_batch_size": 1, "max_queue_size": 8}
    async with Batcher(
        send_on, **options, on_batch=lambda size, seconds: taken.append(seconds)
    ) as queue:
        both = [asyncio.create_task(send(queue, item)) for item in "ab"]
        await asyncio.sleep(0.05)  # the first one's time
        for gate in gates:
            gate.set()
            await settle()
        await asyncio.gather(*both)
    assert taken[0] >= 0.05
    assert taken[1] < 0.04


async def test_everyone_is_answered_even_if_the_next_batch_cannot_be_sent(caplog):
    runner = Runner(is_open=False)

    def fails(lane: str, take: Take) -> asyncio.Future[list[str | Exception]]:
        if runner.batches:
            raise ValueError("cannot be sent")
        return runner.send(lane, take)

    async with Batcher(
        fails, scheduler=DeviceScheduler("w"), max_batch_size=1, max_queue_size=8
    ) as queue:
        held = asyncio.create_task(send(queue, "held"))
        await runner.entered.wait()
        next_ = asyncio.create_task(send(queue, "next"))
        await settle()
        runner.gate.set()
        assert await held == "HELD"
        with pytest.raises(Internal):
            await next_


class HandedOver:
    """Batches on a lane, which begins with each when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[Take, asyncio.Future[list[str]]]] = []

    def send(self, lane: str, take: Take) -> asyncio.Future[list[str]]:
        future = asyncio.get_running_loop().create_future()
        self.sent.append((take, future))
        return future

    def run(self, number: int) -> list[str]:
        take, future = self.sent[number]
        items = list(take())
        future.set_result([item.upper() for item in items])
        return items


async def test_whoever_comes_joins_the_batch_at_hand_until_its_lane_begins():
    lane, scheduler = HandedOver(), DeviceScheduler("wide", depth=2)
    options = {"scheduler": scheduler, "max_batch_size": 3, "max_queue_size": 8}
    async with Batcher(lane.send, **options) as queue:
        tasks = []
        for item in "abcdefg":
            tasks.append(asyncio.create_task(send(queue, item)))
            await settle()
            if item == "a":
                lane.sent[0][0]()  # the lane begins with it alone
        tasks[2].cancel()
        await settle()
        lane.sent[0][1].set_result(["A"])
        await settle()
        assert lane.run(1) == ["b", "d"]  # `c` had its place, and left
        await settle()
        assert lane.run(2) == ["e", "f", "g"]
        await settle()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one for one in answers if isinstance(one, str)] == list("ABDEFG")


async def test_another_kind_does_not_join_the_batch_at_hand():
    lane, scheduler = HandedOver(), DeviceScheduler("wide", depth=1)
    options = {"scheduler": scheduler, "max_batch_size": 3, "max_queue_size": 8}
    async with Batcher(lane.send, **options) as queue:
        tasks = [asyncio.create_task(send(queue, *each)) for each in ("ax", "by", "cx")]
        await settle()
        assert lane.run(0) == ["a", "c"]
        await settle()
        assert lane.run(1) == ["b"]
        assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_a_batch_is_no_larger_than_its_most_urgent_item_has_time_for():
    runner = Runner(is_open=False)
    async with batcher(runner) as queue:
        queue.measured(CostTable({1: 0.1, 2: 0.15, 4: 20.0, 8: 30.0}))
        held = asyncio.create_task(send(queue, "held"))
        await runner.entered.wait()
        rest = [asyncio.create_task(send(queue, item, seconds=10)) for item in "abcd"]
        await settle()
        runner.gate.set()
        await asyncio.gather(held, *rest)
    assert runner.batches == [["held"], ["a", "b"], ["c", "d"]]


async def test_who_has_no_time_left_is_told_so_when_others_have():
    lane = HandedOver()
    async with Batcher(
        lane.send, scheduler=DeviceScheduler("w"), max_batch_size=2, max_queue_size=9
    ) as queue:
        held = asyncio.create_task(send(queue, "held"))
        await settle()
        lane.sent[0][0]()
        hopeless = asyncio.create_task(send(queue, "hopeless", seconds=20))
        rest = [asyncio.create_task(send(queue, item, seconds=60)) for item in "abc"]
        await settle()
        queue.sizer.measured(CostTable({1: 29.0, 2: 30.0}))
        lane.sent[0][1].set_result(["HELD"])
        await settle()
        with pytest.raises(DeadlineExceeded, match="no time left"):
            await hopeless
        assert lane.run(1) == ["a", "b"]
        await settle()
        assert lane.run(2) == ["c"]
        assert await asyncio.gather(held, *rest) == ["HELD", "A", "B", "C"]


async def test_a_lone_item_waits_for_company_only_where_a_delay_is_set():
    runner = Runner()
    async with batcher(runner, max_queue_delay_s=30.0, max_batch_size=2) as queue:
        first = asyncio.create_task(send(queue, "a"))
        await settle()
        assert runner.batches == []
        assert await send(queue, "b") == "B"
        assert await first == "A"
    assert runner.batches == [["a", "b"]]


async def test_waiting_for_company_leaves_the_device_to_the_other_queue():
    runner, scheduler = Runner(), DeviceScheduler("wide")
    async with (
        batcher(runner, scheduler=scheduler, max_queue_delay_s=30.0, max_batch_size=2) as patient,
        batcher(runner, scheduler=scheduler) as other,
    ):
        first = asyncio.create_task(send(patient, "a"))
        await settle()
        async with asyncio.timeout(10):
            assert await send(other, "x") == "X"
        assert await send(patient, "b") == "B"
        assert await first == "A"
    assert runner.batches == [["x"], ["a", "b"]]


async def test_waiting_for_company_does_not_count_as_the_cost_of_an_item():
    async with batcher(Runner(), max_queue_delay_s=0.5) as queue:
        queue.measured(CostTable({1: 0.2, 4: 0.4}))
        await send(queue, "a")
    assert queue.admission.seconds_per_item <= 0.1


async def test_company_is_not_waited_for_longer_than_the_delay():
    runner = Runner()
    async with batcher(runner, max_queue_delay_s=0.01) as queue:
        assert await send(queue, "a") == "A"


async def test_items_of_another_key_are_not_forgotten_after_the_delay():
    runner = Runner()
    async with batcher(runner, max_queue_delay_s=0.01) as queue:
        answers = await asyncio.gather(send(queue, "a", "small"), send(queue, "b", "large"))
    assert answers == ["A", "B"]
    assert runner.batches == [["a"], ["b"]]


async def test_closing_settles_the_queued_and_the_running():
    runner = Runner(is_open=False)
    async with batcher(runner, max_batch_size=1) as queue:
        running = asyncio.create_task(send(queue, "running"))
        await runner.entered.wait()
        queued = asyncio.create_task(send(queue, "queued"))
        await settle()
    for task in (running, queued):
        with pytest.raises(NotReady):
            await task
    assert not queue.alive
    with pytest.raises(NotReady):
        await send(queue, "after")


async def test_a_ticket_tells_how_its_item_travelled():
    runner, sizes = Runner(), []
    async with batcher(runner, on_batch=lambda size, seconds: sizes.append(size)) as queue:
        with queue.admission.reserve(later()) as ticket:
            assert queue.admission.depth == 1
            await queue.run(ticket, "a", "k")
        assert ticket.batch_size == 1
        assert ticket.began > 0
        assert queue.oldest_age() == 0
    assert sizes == [1]


async def test_a_batch_that_was_quicker_than_measured_lowers_the_prediction():
    async with batcher(Runner()) as queue:
        queue.measured(CostTable({1: 50.0, 4: 100.0}))
        assert queue.admission.seconds_per_item == 25.0
        await send(queue, "alone")
        assert queue.admission.seconds_per_item < 1.0


async def test_a_crowd_tells_how_slow_the_device_has_become():
    runner = Runner(is_open=False)
    async with batcher(runner, max_batch_size=1, max_queue_size=64) as queue:
        queue.measured(CostTable({1: 1e-9}))
        items = [asyncio.create_task(send(queue, str(number))) for number in range(40)]
        await runner.entered.wait()
        runner.gate.set()
        await asyncio.gather(*items)
        assert queue.admission.seconds_per_item > 1e-9
        assert queue.admission.running == queue.admission.depth == 0


async def test_an_item_in_a_batch_has_left_the_queue_and_still_counts_for_the_wait():
    runner = Runner(is_open=False)
    async with batcher(runner, max_batch_size=1) as queue:
        queue.measured(CostTable({1: 2.0}))
        running = asyncio.create_task(send(queue, "running"))
        await runner.entered.wait()
        queued = asyncio.create_task(send(queue, "queued"))
        await settle()
        assert (queue.admission.depth, queue.admission.running) == (1, 1)
        assert queue.admission.predicted_wait() == pytest.approx(6.0)
        runner.gate.set()
        await asyncio.gather(running, queued)
