"""An open batch: which entries it accepts, which it runs, and which results they get."""

import asyncio

import pytest

from app.batching.batch import OpenBatch
from app.batching.entry import Entry
from app.batching.request_queue import RequestQueue
from app.core.errors import DeadlineExceeded

pytestmark = pytest.mark.anyio


def waiting_entry(item: str, seconds: float = 60.0) -> Entry[str, str]:
    queue: RequestQueue[str, str] = RequestQueue()
    entry = Entry(queue, asyncio.get_running_loop().time() + seconds)
    queue.push(entry)
    queue.set_ready(entry, item, "k")
    return entry


def batch_of(*entries: Entry[str, str], narrow: bool = False) -> OpenBatch[str, str]:
    batch: OpenBatch[str, str] = OpenBatch("k", narrow=narrow)
    assert all(batch.add(entry) for entry in entries)
    return batch


async def test_a_batch_accepts_entries_until_the_lane_closes_it():
    first, second, late = waiting_entry("a"), waiting_entry("b"), waiting_entry("c")
    batch = batch_of(first)
    assert batch.add(second)
    assert batch.close() == ["a", "b"]
    assert not batch.add(late)
    assert len(batch) == 2


async def test_a_cancelled_or_expired_entry_is_not_run():
    kept, cancelled = waiting_entry("kept"), waiting_entry("cancelled")
    expired = waiting_entry("expired", seconds=0)
    cancelled.future.cancel()
    batch = batch_of(kept, cancelled, expired)
    assert batch.deadline == expired.deadline
    assert batch.close() == ["kept"]
    results = asyncio.get_running_loop().create_future()
    results.set_result(["KEPT"])
    batch.deliver(results)
    assert await kept.future == "KEPT"
    with pytest.raises(DeadlineExceeded):
        await expired.future


async def test_an_entry_gets_the_size_and_the_start_of_its_batch():
    entries = [waiting_entry("a"), waiting_entry("b")]
    batch = batch_of(*entries, narrow=True)
    batch.close()
    results = asyncio.get_running_loop().create_future()
    results.set_result(["A", "B"])
    batch.deliver(results)
    assert [entry.batch_size for entry in entries] == [2, 2]
    assert [entry.started for entry in entries] == [batch.started] * 2


async def test_every_entry_of_a_batch_that_could_not_start_gets_the_error():
    entries = [waiting_entry("a"), waiting_entry("b")]
    batch = batch_of(*entries)
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(ValueError("no"))
    batch.deliver(failed)
    for entry in entries:
        assert isinstance(entry.future.exception().__cause__, ValueError)


async def test_only_items_with_a_result_count_as_completed():
    batch = batch_of(*(waiting_entry(item) for item in "abc"))
    batch.close()
    loop = asyncio.get_running_loop()
    mixed, failed, cancelled = (loop.create_future() for _ in range(3))
    mixed.set_result(["A", DeadlineExceeded("skipped"), "C"])
    failed.set_exception(ValueError("the whole batch"))
    cancelled.cancel()
    assert [batch.completed(future) for future in (mixed, failed, cancelled)] == [2, 0, 0]


async def test_an_item_can_get_its_result_before_the_batch_is_done():
    first, second = waiting_entry("a"), waiting_entry("b")
    batch, future = batch_of(first, second), asyncio.get_running_loop().create_future()
    batch.close()
    batch.settle("b", "B")
    assert second.future.result() == "B"
    assert (second.batch_size, second.started) == (2, batch.started)
    assert not first.future.done()
    future.set_result(["A", "another"])
    batch.deliver(future)
    assert (first.future.result(), second.future.result()) == ("A", "B")
