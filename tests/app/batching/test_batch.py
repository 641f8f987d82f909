"""A batch on its way to a lane: who joins it, who does not, and what they are told."""

import asyncio

import pytest

from app.batching.admission import AdmissionController
from app.batching.batch import Entry, OpenBatch
from app.core.errors import DeadlineExceeded

pytestmark = pytest.mark.anyio


def waiting(item: str, seconds: float = 60.0) -> Entry[str, str]:
    loop = asyncio.get_running_loop()
    ticket = AdmissionController(max_queue_size=8).reserve(loop.time() + 60)
    ticket.deadline = loop.time() + seconds
    return Entry(item, "k", loop.time(), loop.create_future(), ticket)


async def test_more_join_until_the_lane_begins():
    first, second, late = waiting("a"), waiting("b"), waiting("c")
    batch = OpenBatch("k", [first], narrow=False)
    assert batch.add(second)
    assert batch.close() == ["a", "b"]
    assert not batch.add(late)
    assert len(batch) == 2


async def test_who_left_or_is_late_is_not_run():
    stays, left, late = waiting("stays"), waiting("left"), waiting("late", seconds=0)
    left.answer.cancel()
    batch = OpenBatch("k", [stays, left, late], narrow=False)
    assert batch.deadline == late.deadline
    assert batch.close() == ["stays"]
    results = asyncio.get_running_loop().create_future()
    results.set_result(["STAYS"])
    batch.deliver(results)
    assert await stays.answer == "STAYS"
    with pytest.raises(DeadlineExceeded):
        await late.answer


async def test_a_member_knows_its_company_and_when_it_began():
    members = [waiting("a"), waiting("b")]
    batch = OpenBatch("k", members, narrow=True)
    batch.close()
    results = asyncio.get_running_loop().create_future()
    results.set_result(["A", "B"])
    batch.deliver(results)
    assert [one.ticket.batch_size for one in members] == [2, 2]
    assert [one.ticket.began for one in members] == [batch.began] * 2


async def test_all_are_told_of_a_lane_that_could_not_begin():
    members = [waiting("a"), waiting("b")]
    batch = OpenBatch("k", members, narrow=False)
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(ValueError("no"))
    batch.deliver(failed)
    for one in members:
        assert isinstance(one.answer.exception().__cause__, ValueError)
