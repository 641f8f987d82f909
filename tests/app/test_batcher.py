"""The queue: order, identity, deadlines, overload, leaving."""

import asyncio
from collections.abc import Sequence

import pytest

from app.batcher import Batcher
from app.errors import DeadlineExceeded, Internal, NotReady, Overloaded

pytestmark = pytest.mark.anyio


class Device:
    """Runs batches behind a gate: each waits until the test opens it."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()
        if is_open:
            self.gate.set()

    async def run(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        self.entered.set()
        await self.gate.wait()
        if "poison" in items:
            raise ValueError("poison")
        return [item.upper() for item in items]


def batcher(device: Device, **changes) -> Batcher[str, str]:
    options = {"slot": asyncio.Lock(), "max_batch_size": 4, "max_queue_size": 8} | changes
    return Batcher(device.run, **options)


def later(seconds: float = 60.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def send(queue: Batcher[str, str], item: str, key: str = "k", seconds: float = 60) -> str:
    with queue.reserve(later(seconds)) as ticket:
        return await ticket.run(item, key)


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_lone_item_is_run_at_once():
    device = Device()
    async with batcher(device) as queue:
        assert await send(queue, "a") == "A"
    assert device.batches == [["a"]]


async def test_items_that_wait_for_the_device_share_the_next_batch():
    device = Device(is_open=False)
    async with batcher(device) as queue, asyncio.TaskGroup() as group:
        first = group.create_task(send(queue, "a"))
        await device.entered.wait()
        rest = [group.create_task(send(queue, item)) for item in "bcdef"]
        await settle()
        device.gate.set()
    assert device.batches == [["a"], ["b", "c", "d", "e"], ["f"]]
    assert [first.result(), *(task.result() for task in rest)] == list("ABCDEF")


async def test_everyone_gets_their_own_answer_however_many_ask():
    device = Device()
    async with batcher(device, max_queue_size=1000) as queue:
        items = [f"item {i}" for i in range(500)]
        answers = await asyncio.gather(*(send(queue, item, key=item[-1]) for item in items))
    assert answers == [item.upper() for item in items]


async def test_only_equal_keys_share_a_batch():
    device = Device(is_open=False)
    async with batcher(device) as queue, asyncio.TaskGroup() as group:
        group.create_task(send(queue, "first"))
        await device.entered.wait()
        for item, key in [("a", "small"), ("B", "large"), ("c", "small")]:
            group.create_task(send(queue, item, key))
        await settle()
        device.gate.set()
    assert device.batches == [["first"], ["a", "c"], ["B"]]


async def test_the_nearest_deadline_goes_first():
    device = Device(is_open=False)
    async with batcher(device, max_batch_size=1) as queue, asyncio.TaskGroup() as group:
        group.create_task(send(queue, "first"))
        await device.entered.wait()
        for item, seconds in [("late", 50), ("soon", 10), ("middle", 30)]:
            group.create_task(send(queue, item, seconds=seconds))
        await settle()
        device.gate.set()
    assert device.batches == [["first"], ["soon"], ["middle"], ["late"]]


async def test_a_full_queue_refuses_with_a_time_to_retry():
    device = Device(is_open=False)
    async with batcher(device, max_queue_size=2) as queue:
        with queue.reserve(later()), queue.reserve(later()):
            with pytest.raises(Overloaded) as refused:
                queue.reserve(later())
            assert refused.value.retry_after_s > 0
        assert queue.depth == 0
        queue.reserve(later()).give_back()


async def test_a_wait_that_passes_the_deadline_is_refused_on_arrival():
    device = Device()
    async with batcher(device) as queue:
        queue.seconds_per_item = 5.0
        with queue.reserve(later()):
            assert queue.predicted_wait() == pytest.approx(5.0)
            with pytest.raises(Overloaded, match="deadline") as refused:
                queue.reserve(later(4.0))
            assert 5.0 <= refused.value.retry_after_s <= 7.5
            queue.reserve(later(6.0)).give_back()


async def test_an_expired_item_never_reaches_the_device():
    device = Device(is_open=False)
    async with batcher(device) as queue, asyncio.TaskGroup() as group:
        group.create_task(send(queue, "first"))
        await device.entered.wait()
        with queue.reserve(later(0.01)) as ticket:
            late = asyncio.ensure_future(ticket.run("late", "k"))
            await asyncio.sleep(0.02)  # its deadline is a time
            device.gate.set()
            with pytest.raises(DeadlineExceeded):
                await late
    assert device.batches == [["first"]]


async def test_an_item_whose_caller_left_never_reaches_the_device():
    device = Device(is_open=False)
    async with batcher(device) as queue, asyncio.TaskGroup() as group:
        group.create_task(send(queue, "first"))
        await device.entered.wait()
        left = asyncio.create_task(send(queue, "left"))
        stays = group.create_task(send(queue, "stays"))
        await settle()
        left.cancel()
        await settle()
        assert queue.depth == 1
        device.gate.set()
        assert await stays == "STAYS"
    assert device.batches == [["first"], ["stays"]]


async def test_a_caller_that_leaves_in_mid_batch_harms_nobody():
    device = Device(is_open=False)
    async with batcher(device) as queue:
        left = asyncio.create_task(send(queue, "left"))
        await device.entered.wait()
        left.cancel()
        await settle()
        device.gate.set()
        assert await send(queue, "next") == "NEXT"


async def test_a_failed_batch_tells_its_callers_and_the_queue_goes_on():
    device = Device()
    async with batcher(device) as queue:
        with pytest.raises(Internal) as failed:
            await send(queue, "poison")
        assert isinstance(failed.value.__cause__, ValueError)
        assert await send(queue, "a") == "A"
        assert queue.depth == 0


async def test_a_missing_result_fails_the_batch_instead_of_shifting_answers():
    async def short(items: Sequence[str]) -> list[str]:
        return [item.upper() for item in items][:-1]

    async with Batcher(short, slot=asyncio.Lock(), max_batch_size=4, max_queue_size=8) as queue:
        with pytest.raises(Internal):
            await send(queue, "a")


async def test_batchers_of_one_device_take_turns():
    device, slot = Device(), asyncio.Lock()
    async with batcher(device, slot=slot) as one, batcher(device, slot=slot) as other:
        async with slot:
            answers = [
                asyncio.create_task(send(queue, item))
                for queue, item in [(one, "a"), (one, "b"), (other, "x"), (other, "y")]
            ]
            await settle()
            assert device.batches == []
        assert await asyncio.gather(*answers) == ["A", "B", "X", "Y"]
    assert device.batches == [["a", "b"], ["x", "y"]]


async def test_a_lone_item_waits_for_company_only_where_a_delay_is_set():
    device = Device()
    async with batcher(device, max_queue_delay_s=30.0, max_batch_size=2) as queue:
        first = asyncio.create_task(send(queue, "a"))
        await settle()
        assert device.batches == []
        assert await send(queue, "b") == "B"
        assert await first == "A"
    assert device.batches == [["a", "b"]]


async def test_waiting_for_company_leaves_the_device_to_the_other_queue():
    device, slot = Device(), asyncio.Lock()
    async with (
        batcher(device, slot=slot, max_queue_delay_s=30.0, max_batch_size=2) as patient,
        batcher(device, slot=slot) as other,
    ):
        first = asyncio.create_task(send(patient, "a"))
        await settle()
        async with asyncio.timeout(10):
            assert await send(other, "x") == "X"
        assert await send(patient, "b") == "B"
        assert await first == "A"
    assert device.batches == [["x"], ["a", "b"]]


async def test_waiting_for_company_does_not_count_as_the_cost_of_an_item():
    async with batcher(Device(), max_queue_delay_s=0.5) as queue:
        await send(queue, "a")
    assert queue.seconds_per_item < 0.4


async def test_company_is_not_waited_for_longer_than_the_delay():
    device = Device()
    async with batcher(device, max_queue_delay_s=0.01) as queue:
        assert await send(queue, "a") == "A"


async def test_items_of_another_key_are_not_forgotten_after_the_delay():
    device = Device()
    async with batcher(device, max_queue_delay_s=0.01) as queue:
        answers = await asyncio.gather(send(queue, "a", "small"), send(queue, "b", "large"))
    assert answers == ["A", "B"]
    assert device.batches == [["a"], ["b"]]


async def test_closing_settles_the_queued_and_the_running():
    device = Device(is_open=False)
    async with batcher(device, max_batch_size=1) as queue:
        running = asyncio.create_task(send(queue, "running"))
        await device.entered.wait()
        queued = asyncio.create_task(send(queue, "queued"))
        await settle()
    for task in (running, queued):
        with pytest.raises(NotReady):
            await task
    assert not queue.alive
    with pytest.raises(NotReady):
        await send(queue, "after")


async def test_a_ticket_tells_how_its_item_travelled():
    device, sizes = Device(), []
    async with batcher(device, on_batch=lambda size, seconds: sizes.append(size)) as queue:
        with queue.reserve(later()) as ticket:
            assert queue.depth == 1
            await ticket.run("a", "k")
        assert ticket.batch_size == 1
        assert ticket.queue_seconds >= 0
        assert queue.oldest_age() == 0
    assert sizes == [1]


async def test_the_drain_rate_is_that_of_a_crowd():
    device = Device()
    async with batcher(device, max_batch_size=2) as queue:
        queue.seconds_per_item = 0.5
        await send(queue, "alone")
        assert queue.seconds_per_item == 0.5
        await asyncio.gather(send(queue, "a"), send(queue, "b"))
        assert queue.seconds_per_item < 0.5
