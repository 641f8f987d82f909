"""The line of those who wait: its order, who is dropped, and who moves into a batch."""

import asyncio

import pytest

from app.batching.admission import AdmissionController
from app.batching.batch import Entry, OpenBatch
from app.batching.request_queue import RequestQueue
from app.core.errors import DeadlineExceeded

pytestmark = pytest.mark.anyio


def line(*items: tuple[str, float]) -> tuple[RequestQueue[str, str], list[Entry[str, str]]]:
    """Who waits, by name and the seconds that they have left."""
    loop, admission = asyncio.get_running_loop(), AdmissionController(max_queue_size=9)
    everyone, made = [], RequestQueue()
    for name, seconds in items:
        ticket = admission.reserve(loop.time() + 60)
        ticket.deadline = loop.time() + seconds
        waiting = Entry(name, name[0], loop.time(), loop.create_future(), ticket)
        made.push(waiting)
        everyone.append(waiting)
    return made, everyone


def now() -> float:
    return asyncio.get_running_loop().time()


def names(waiting: RequestQueue[str, str]) -> list[str]:
    return [one.item for one in waiting]


async def test_the_most_urgent_is_first():
    waiting, _ = line(("late", 50), ("soon", 10), ("middle", 30))
    assert waiting.peek(now()).item == "soon"
    assert names(waiting) == ["soon", "middle", "late"]
    assert waiting.urgency == min(one.deadline for one in waiting)


async def test_who_has_left_is_dropped_and_who_is_late_is_told():
    waiting, (left, late, stays) = line(("left", 50), ("late", 0), ("stays", 50))
    left.answer.cancel()
    assert waiting.peek(now()) is stays
    assert len(waiting) == 1
    assert isinstance(late.answer.exception(), DeadlineExceeded)


async def test_nobody_may_be_left():
    waiting, (left,) = line(("left", 50))
    waiting.remove(left)
    waiting.remove(left)
    assert waiting.peek(now()) is None
    assert waiting.oldest_age() == 0
    assert waiting.urgency == float("inf")


async def test_the_hopeless_make_way_only_for_others():
    waiting, everyone = line(("a", 1), ("b", 2), ("c", 3), ("d", 60))
    waiting.peek(now())
    waiting.expire_unservable(2, seconds=10)
    assert names(waiting) == ["c", "d"]  # they are no more than enough
    assert all(isinstance(one.answer.exception(), DeadlineExceeded) for one in everyone[:2])


async def test_who_has_left_moves_nowhere():
    waiting, (_, left, _) = line(("x1", 10), ("x2", 11), ("x3", 12))
    left.answer.cancel()
    batch = OpenBatch("x", (), narrow=False)
    waiting.fill(batch, "x", 2)
    assert batch.close() == ["x1", "x3"]
    assert names(waiting) == []


async def test_equals_move_into_a_batch_until_it_is_full_or_begins():
    waiting, everyone = line(("x1", 10), ("y1", 11), ("x2", 12), ("x3", 13))
    waiting.peek(now())
    batch = OpenBatch("x", (), narrow=False)
    waiting.fill(batch, "x", 2)
    assert batch.close() == ["x1", "x2"]
    assert names(waiting) == ["y1", "x3"]
    waiting.fill(batch, "x", 2)
    assert names(waiting) == ["y1", "x3"]
    assert everyone[0].ticket._admission.running == 2
