"""The batcher: order, own results, deadlines, errors, disconnected clients, closing."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from app.batching.batcher import Batcher
from app.batching.costs import CostTable
from app.batching.scheduler import DeviceScheduler
from app.core.errors import DeadlineExceeded, Internal, InvalidImage, NotReady, Overloaded

pytestmark = pytest.mark.anyio
TakeItems = Callable[[], Sequence[str]]
ERRORS = {"damaged": InvalidImage("damaged"), "broken": ValueError("broken")}


class Runner:
    """Runs batches; each waits until the test opens the gate."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.lanes: list[str] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        if is_open:
            self.gate.set()

    def send(
        self, lane: str, take_items: TakeItems, settle: object
    ) -> asyncio.Future[list[str | Exception]]:
        return asyncio.ensure_future(self._run(lane, take_items))

    async def _run(self, lane: str, take_items: TakeItems) -> list[str | Exception]:
        items = take_items()
        self.batches.append(list(items))
        self.lanes.append(lane)
        self.entered.set()
        await self.gate.wait()
        if "poison" in items:
            raise ValueError("poison")
        return [ERRORS.get(item) or item.upper() for item in items]


def make_batcher(runner: Runner, **changes) -> Batcher[str, str, str]:
    options = {
        "scheduler": DeviceScheduler("wide"),
        "max_batch_size": 4,
        "max_queue_size": 8,
    } | changes
    return Batcher(runner.send, **options)


def deadline_in(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def send(
    batcher: Batcher[str, str, str], item: str, key: str = "k", seconds: float = 60
) -> str:
    with batcher.admission.reserve(deadline_in(seconds)) as entry:
        return await batcher.run(entry, item, key)


async def run_tasks() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_single_item_runs_at_once():
    runner = Runner()
    async with make_batcher(runner) as batcher:
        assert await send(batcher, "a") == "A"
    assert runner.batches == [["a"]]


async def test_items_that_wait_for_the_device_share_the_next_batch():
    runner = Runner(is_open=False)
    async with make_batcher(runner) as batcher, asyncio.TaskGroup() as group:
        first = group.create_task(send(batcher, "a"))
        await runner.entered.wait()
        rest = [group.create_task(send(batcher, item)) for item in "bcdef"]
        await run_tasks()
        runner.gate.set()
    assert runner.batches == [["a"], ["b", "c", "d", "e"], ["f"]]
    assert [first.result(), *(task.result() for task in rest)] == list("ABCDEF")


async def test_each_of_many_items_gets_its_own_result():
    runner = Runner()
    async with make_batcher(runner, max_queue_size=1000) as batcher:
        items = [f"item {i}" for i in range(500)]
        results = await asyncio.gather(*(send(batcher, item, key=item[-1]) for item in items))
    assert results == [item.upper() for item in items]


async def test_only_equal_keys_share_a_batch():
    runner = Runner(is_open=False)
    async with make_batcher(runner) as batcher, asyncio.TaskGroup() as group:
        group.create_task(send(batcher, "first"))
        await runner.entered.wait()
        for item, key in [("a", "small"), ("B", "large"), ("c", "small")]:
            group.create_task(send(batcher, item, key))
        await run_tasks()
        runner.gate.set()
    assert runner.batches == [["first"], ["a", "c"], ["B"]]


async def test_the_nearest_deadline_runs_first():
    runner = Runner(is_open=False)
    async with make_batcher(runner, max_batch_size=1) as batcher, asyncio.TaskGroup() as group:
        group.create_task(send(batcher, "first"))
        await runner.entered.wait()
        for item, seconds in [("late", 50), ("soon", 10), ("middle", 30)]:
            group.create_task(send(batcher, item, seconds=seconds))
        await run_tasks()
        runner.gate.set()
    assert runner.batches == [["first"], ["soon"], ["middle"], ["late"]]


async def test_an_expired_item_never_reaches_the_device():
    runner = Runner(is_open=False)
    async with make_batcher(runner) as batcher, asyncio.TaskGroup() as group:
        group.create_task(send(batcher, "first"))
        await runner.entered.wait()
        with batcher.admission.reserve(deadline_in(0.01)) as entry:
            late = asyncio.ensure_future(batcher.run(entry, "late", "k"))
            await asyncio.sleep(0.02)  # until the deadline has passed
            runner.gate.set()
            with pytest.raises(DeadlineExceeded):
                await late
    assert runner.batches == [["first"]]


async def test_an_item_whose_client_disconnected_never_reaches_the_device():
    runner = Runner(is_open=False)
    async with make_batcher(runner) as batcher, asyncio.TaskGroup() as group:
        group.create_task(send(batcher, "first"))
        await runner.entered.wait()
        gone = asyncio.create_task(send(batcher, "gone"))
        kept = group.create_task(send(batcher, "kept"))
        await run_tasks()
        gone.cancel()
        await run_tasks()
        assert len(batcher.queue) == 1
        runner.gate.set()
        assert await kept == "KEPT"
    assert runner.batches == [["first"], ["kept"]]


async def test_a_client_that_disconnects_while_its_batch_runs_does_not_affect_others():
    runner = Runner(is_open=False)
    async with make_batcher(runner) as batcher:
        gone = asyncio.create_task(send(batcher, "gone"))
        await runner.entered.wait()
        gone.cancel()
        await run_tasks()
        runner.gate.set()
        assert await send(batcher, "next") == "NEXT"


async def test_after_a_failed_batch_the_batcher_continues():
    runner = Runner()
    async with make_batcher(runner) as batcher:
        with pytest.raises(Internal) as failed:
            await send(batcher, "poison")
        assert isinstance(failed.value.__cause__, ValueError)
        assert await send(batcher, "a") == "A"
        assert len(batcher.queue) == 0


async def test_a_faulty_item_fails_alone():
    runner = Runner(is_open=False)
    async with make_batcher(runner) as batcher:
        held = asyncio.create_task(send(batcher, "held"))
        await runner.entered.wait()
        tasks = [asyncio.create_task(send(batcher, item)) for item in ("a", "damaged", "broken")]
        await run_tasks()
        runner.gate.set()
        good, damaged, broken = await asyncio.gather(*tasks, return_exceptions=True)
        await held
    assert good == "A"
    assert damaged is ERRORS["damaged"]
    assert isinstance(broken, Internal)
    assert broken.__cause__ is ERRORS["broken"]


async def test_a_missing_result_fails_the_batch_instead_of_shifting_results():
    def short(lane: str, take_items: TakeItems, settle: object) -> asyncio.Future[list[str]]:
        future = asyncio.get_running_loop().create_future()
        future.set_result([item.upper() for item in take_items()][:-1])
        return future

    scheduler = DeviceScheduler("wide")
    async with Batcher(short, scheduler=scheduler, max_batch_size=4, max_queue_size=8) as batcher:
        with pytest.raises(Internal) as failed:
            await send(batcher, "a")
        assert isinstance(failed.value.__cause__, ValueError)


async def test_an_item_that_lost_its_place_while_it_was_decoded_never_reaches_the_device():
    runner = Runner()
    async with make_batcher(runner, max_queue_size=2) as batcher:
        with (
            batcher.admission.reserve(deadline_in(60), "many"),
            batcher.admission.reserve(deadline_in(61), "many") as last,
            batcher.admission.reserve(deadline_in(60), "few"),
        ):
            with pytest.raises(Overloaded, match="most of its places"):
                await batcher.run(last, "last", "k")
            assert len(batcher.queue) == 2
    assert runner.batches == []
    assert len(batcher.queue) == 0


async def test_batchers_of_one_device_take_turns():
    runner, scheduler = Runner(is_open=False), DeviceScheduler("wide")
    async with (
        make_batcher(runner, scheduler=scheduler) as first,
        make_batcher(runner, scheduler=scheduler) as other,
    ):
        held = asyncio.create_task(send(first, "held"))
        await runner.entered.wait()
        results = [
            asyncio.create_task(send(batcher, item))
            for batcher, item in [(first, "a"), (first, "b"), (other, "x"), (other, "y")]
        ]
        await run_tasks()
        assert runner.batches == [["held"]]
        runner.gate.set()
        assert await asyncio.gather(*results) == ["A", "B", "X", "Y"]
        await held
    assert sorted(runner.batches[1:]) == [["a", "b"], ["x", "y"]]


async def test_under_load_each_narrow_lane_gets_an_equal_share_in_two_batches():
    runner, scheduler = Runner(is_open=False), DeviceScheduler("wide", ["first", "second"])
    async with make_batcher(runner, scheduler=scheduler) as batcher:
        batcher.measured(CostTable({1: 0.2}, {1: 0.3, 8: 0.6}, lanes=2))
        held = asyncio.create_task(send(batcher, "held"))
        await runner.entered.wait()
        rest = [asyncio.create_task(send(batcher, item)) for item in "abcdefgh"]
        await run_tasks()
        runner.gate.set()
        await asyncio.gather(held, *rest)
    assert runner.lanes[:3] == ["wide", "first", "second"]
    assert runner.batches[:3] == [["held"], ["a", "b"], ["c", "d"]]


@pytest.mark.parametrize(("flood", "most"), [("second", 2), ("first", 8)])
async def test_while_one_client_floods_the_queue_batches_of_narrow_lanes_are_short(flood, most):
    runner = Runner(is_open=False)
    scheduler = DeviceScheduler("wide", ["narrow"])
    async with make_batcher(runner, scheduler=scheduler, max_queue_size=64) as batcher:
        table = {1: 0.005, 2: 0.009, 4: 0.017, 8: 0.03}
        batcher.measured(CostTable(wide={1: 1.0}, narrow=table))
        batcher.sizer.limit = 8

        async def request(client: str) -> str:
            with batcher.admission.reserve(deadline_in(), client) as entry:
                return await batcher.run(entry, client, "k")

        requests = [asyncio.create_task(request(each)) for each in ["first", *[flood] * 40]]
        await run_tasks()
        runner.gate.set()
        await asyncio.gather(*requests)
    assert max(map(len, runner.batches)) == most


@pytest.mark.parametrize(("extra_s", "lane"), [(0.3, "narrow"), (0.2, "wide")])
async def test_an_expensive_image_never_uses_the_wide_lane(extra_s, lane):
    runner = Runner()
    async with make_batcher(runner, scheduler=DeviceScheduler("wide", ["narrow"])) as batcher:
        batcher.measured(CostTable(wide={1: 0.1}, narrow={1: 0.2}))
        with batcher.admission.reserve(deadline_in(), extra_s=extra_s) as entry:
            await batcher.run(entry, "a", "k")
    assert runner.lanes == [lane]


async def test_the_duration_of_a_batch_excludes_the_wait_for_its_lane(monkeypatch):
    lane, loop, taken = ManualLane(), asyncio.get_running_loop(), []
    clock = loop.time()
    monkeypatch.setattr(loop, "time", lambda: clock)
    options = {"scheduler": DeviceScheduler("wide", depth=2), "max_batch_size": 1}
    async with Batcher(
        lane.send,
        **options,
        max_queue_size=8,
        on_batch=lambda size, seconds: taken.append(seconds),
    ) as batcher:
        both = [asyncio.create_task(send(batcher, item)) for item in "ab"]
        await run_tasks()
        for number, seconds in enumerate((5.0, 2.0)):
            clock += seconds
            lane.run(number)
            await run_tasks()
        await asyncio.gather(*both)
    assert taken == pytest.approx([5.0, 2.0])


async def test_results_are_delivered_even_if_the_next_batch_cannot_be_sent(caplog):
    runner = Runner(is_open=False)

    def fails(
        lane: str, take_items: TakeItems, settle: object
    ) -> asyncio.Future[list[str | Exception]]:
        if runner.batches:
            raise ValueError("cannot be sent")
        return runner.send(lane, take_items, settle)

    async with Batcher(
        fails, scheduler=DeviceScheduler("w"), max_batch_size=1, max_queue_size=8
    ) as batcher:
        held = asyncio.create_task(send(batcher, "held"))
        await runner.entered.wait()
        next_ = asyncio.create_task(send(batcher, "next"))
        await run_tasks()
        runner.gate.set()
        assert await held == "HELD"
        with pytest.raises(Internal):
            await next_


class ManualLane:
    """A lane that runs a batch when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[TakeItems, asyncio.Future[list[str]]]] = []

    def send(self, lane: str, take_items: TakeItems, settle: object) -> asyncio.Future[list[str]]:
        future = asyncio.get_running_loop().create_future()
        self.sent.append((take_items, future))
        return future

    def run(self, number: int) -> list[str]:
        take_items, future = self.sent[number]
        items = list(take_items())
        future.set_result([item.upper() for item in items])
        return items


async def test_new_items_join_an_open_batch_until_its_lane_starts_it():
    lane, scheduler = ManualLane(), DeviceScheduler("wide", depth=2)
    options = {"scheduler": scheduler, "max_batch_size": 3, "max_queue_size": 8}
    async with Batcher(lane.send, **options) as batcher:
        tasks = []
        for item in "abcdefg":
            tasks.append(asyncio.create_task(send(batcher, item)))
            await run_tasks()
            if item == "a":
                lane.sent[0][0]()  # the lane starts with one item
        tasks[2].cancel()
        await run_tasks()
        lane.sent[0][1].set_result(["A"])
        await run_tasks()
        assert lane.run(1) == ["b", "d"]  # `c` was in the batch, and its client disconnected
        await run_tasks()
        assert lane.run(2) == ["e", "f", "g"]
        await run_tasks()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for result in results if isinstance(result, str)] == list("ABDEFG")


async def test_an_item_with_another_key_does_not_join_an_open_batch():
    lane, scheduler = ManualLane(), DeviceScheduler("wide", depth=1)
    options = {"scheduler": scheduler, "max_batch_size": 3, "max_queue_size": 8}
    async with Batcher(lane.send, **options) as batcher:
        tasks = [asyncio.create_task(send(batcher, *each)) for each in ("ax", "by", "cx")]
        await run_tasks()
        assert lane.run(0) == ["a", "c"]
        await run_tasks()
        assert lane.run(1) == ["b"]
        assert await asyncio.gather(*tasks) == ["A", "B", "C"]


async def test_a_batch_ends_before_the_deadline_of_its_most_urgent_item():
    runner = Runner(is_open=False)
    async with make_batcher(runner) as batcher:
        batcher.measured(CostTable({1: 0.1, 2: 0.15, 4: 20.0, 8: 30.0}))
        held = asyncio.create_task(send(batcher, "held"))
        await runner.entered.wait()
        rest = [asyncio.create_task(send(batcher, item, seconds=10)) for item in "abcd"]
        await run_tasks()
        runner.gate.set()
        await asyncio.gather(held, *rest)
    assert runner.batches == [["held"], ["a", "b"], ["c", "d"]]


async def test_an_item_without_enough_time_left_expires_when_others_have_time():
    lane = ManualLane()
    async with Batcher(
        lane.send, scheduler=DeviceScheduler("w"), max_batch_size=2, max_queue_size=9
    ) as batcher:
        held = asyncio.create_task(send(batcher, "held"))
        await run_tasks()
        lane.sent[0][0]()
        late = asyncio.create_task(send(batcher, "late", seconds=20))
        rest = [asyncio.create_task(send(batcher, item, seconds=60)) for item in "abc"]
        await run_tasks()
        batcher.sizer.measured(CostTable({1: 29.0, 2: 30.0}))
        lane.sent[0][1].set_result(["HELD"])
        await run_tasks()
        with pytest.raises(DeadlineExceeded, match="not enough time"):
            await late
        assert lane.run(1) == ["a", "b"]
        await run_tasks()
        assert lane.run(2) == ["c"]
        assert await asyncio.gather(held, *rest) == ["HELD", "A", "B", "C"]


async def test_a_single_item_waits_for_a_full_batch_if_a_delay_is_set():
    runner = Runner()
    async with make_batcher(runner, max_queue_delay_s=30.0, max_batch_size=2) as batcher:
        first = asyncio.create_task(send(batcher, "a"))
        await run_tasks()
        assert runner.batches == []
        assert await send(batcher, "b") == "B"
        assert await first == "A"
    assert runner.batches == [["a", "b"]]


async def test_while_a_queue_waits_for_a_full_batch_another_queue_uses_the_device():
    runner, scheduler = Runner(), DeviceScheduler("wide")
    async with (
        make_batcher(
            runner, scheduler=scheduler, max_queue_delay_s=30.0, max_batch_size=2
        ) as waiting,
        make_batcher(runner, scheduler=scheduler) as other,
    ):
        first = asyncio.create_task(send(waiting, "a"))
        await run_tasks()
        async with asyncio.timeout(10):
            assert await send(other, "x") == "X"
        assert await send(waiting, "b") == "B"
        assert await first == "A"
    assert runner.batches == [["x"], ["a", "b"]]


async def test_the_wait_for_a_full_batch_does_not_count_as_cost():
    async with make_batcher(Runner(), max_queue_delay_s=0.5) as batcher:
        batcher.measured(CostTable({1: 0.2, 4: 0.4}))
        await send(batcher, "a")
    assert batcher.admission.seconds_per_item <= 0.1


async def test_an_item_waits_for_a_full_batch_no_longer_than_the_delay():
    runner = Runner()
    async with make_batcher(runner, max_queue_delay_s=0.01) as batcher:
        assert await send(batcher, "a") == "A"


async def test_items_of_every_key_run_after_the_delay():
    runner = Runner()
    async with make_batcher(runner, max_queue_delay_s=0.01) as batcher:
        results = await asyncio.gather(send(batcher, "a", "small"), send(batcher, "b", "large"))
    assert results == ["A", "B"]
    assert runner.batches == [["a"], ["b"]]


async def test_closing_fails_queued_and_running_items():
    runner = Runner(is_open=False)
    async with make_batcher(runner, max_batch_size=1) as batcher:
        running = asyncio.create_task(send(batcher, "running"))
        await runner.entered.wait()
        queued = asyncio.create_task(send(batcher, "queued"))
        await run_tasks()
    for task in (running, queued):
        with pytest.raises(NotReady):
            await task
    assert not batcher.alive
    with pytest.raises(NotReady):
        await send(batcher, "after")


async def test_an_entry_gets_the_size_and_the_start_of_its_batch():
    runner, sizes = Runner(), []
    async with make_batcher(runner, on_batch=lambda size, seconds: sizes.append(size)) as batcher:
        with batcher.admission.reserve(deadline_in()) as entry:
            assert len(batcher.queue) == 1
            await batcher.run(entry, "a", "k")
        assert entry.batch_size == 1
        assert entry.started > 0
        assert batcher.queue.oldest_age() == 0
    assert sizes == [1]


async def test_a_batch_that_is_faster_than_measured_lowers_the_prediction():
    async with make_batcher(Runner()) as batcher:
        batcher.measured(CostTable({1: 50.0, 4: 100.0}))
        assert batcher.admission.seconds_per_item == 25.0
        await send(batcher, "alone")
        assert batcher.admission.seconds_per_item < 1.0


async def test_slow_image_threads_raise_the_prediction():
    async with make_batcher(Runner(), image_threads=2) as batcher:
        batcher.measured(CostTable({1: 1.0}))
        batcher.admission.reserve(deadline_in(), extra_s=0.5)
        assert batcher.admission.predicted_wait() == 2.0  # the device is slower
        batcher.admission.reserve(deadline_in(), extra_s=7.5)
        assert batcher.admission.predicted_wait() == 5.0  # 8 s on two threads, and a batch


async def test_under_load_slow_batches_raise_the_prediction():
    runner = Runner(is_open=False)
    async with make_batcher(runner, max_batch_size=1, max_queue_size=64) as batcher:
        batcher.measured(CostTable({1: 1e-9}))
        items = [asyncio.create_task(send(batcher, str(number))) for number in range(40)]
        await runner.entered.wait()
        runner.gate.set()
        await asyncio.gather(*items)
        assert batcher.admission.seconds_per_item > 1e-9
        assert batcher.queue.running == len(batcher.queue) == 0


async def test_idle_time_after_a_batch_whose_clients_disconnected_is_no_slowdown(monkeypatch):
    lane, loop = ManualLane(), asyncio.get_running_loop()
    options = {"scheduler": DeviceScheduler("wide", depth=2), "max_batch_size": 1}
    async with Batcher(lane.send, **options, max_queue_size=8) as batcher:
        batcher.measured(CostTable({1: 1.0}))
        first, gone = (asyncio.create_task(send(batcher, item)) for item in "ab")
        await run_tasks()
        gone.cancel()
        await run_tasks()
        assert (lane.run(0), lane.run(1)) == (["a"], [])
        assert await first == "A"
        later = loop.time() + 30.0
        monkeypatch.setattr(loop, "time", lambda: later)
        next_ = asyncio.create_task(send(batcher, "c"))
        await run_tasks()
        lane.run(2)
        assert await next_ == "C"
        assert batcher.admission.seconds_per_item <= 1.0


async def test_an_item_in_a_batch_frees_its_place_and_counts_for_the_wait():
    runner = Runner(is_open=False)
    async with make_batcher(runner, max_batch_size=1) as batcher:
        batcher.measured(CostTable({1: 2.0}))
        running = asyncio.create_task(send(batcher, "running"))
        await runner.entered.wait()
        queued = asyncio.create_task(send(batcher, "queued"))
        await run_tasks()
        assert (len(batcher.queue), batcher.queue.running) == (1, 1)
        assert batcher.admission.predicted_wait() == pytest.approx(6.0)
        runner.gate.set()
        await asyncio.gather(running, queued)
