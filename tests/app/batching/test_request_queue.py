"""The request queue: its order, the states of its entries, and which of them a batch gets."""

import asyncio
from typing import get_args

import pytest

from app.batching.batch import OpenBatch
from app.batching.entry import Entry, State
from app.batching.request_queue import RequestQueue
from app.core.errors import DeadlineExceeded

pytestmark = pytest.mark.anyio


def now() -> float:
    return asyncio.get_running_loop().time()


def push(queue: RequestQueue[str, str], seconds: float, **options: object) -> Entry[str, str]:
    """Push an entry that is still being decoded."""
    entry = Entry(queue, now() + seconds, **options)
    queue.push(entry)
    return entry


def filled(*items: tuple[str, float]) -> tuple[RequestQueue[str, str], list[Entry[str, str]]]:
    """A queue of waiting entries, from names and seconds until the deadline.

    The key of an entry is the first letter of its name.
    """
    queue: RequestQueue[str, str] = RequestQueue()
    entries = []
    for name, seconds in items:
        entry = push(queue, seconds)
        queue.set_ready(entry, name, name[0])
        entries.append(entry)
    return queue, entries


def names(queue: RequestQueue[str, str]) -> list[str]:
    return [entry.item for entry in queue.waiting]


async def test_the_most_urgent_entry_is_first():
    queue, entries = filled(("late", 50), ("soon", 10), ("middle", 30))
    assert queue.peek(now()).item == "soon"
    assert names(queue) == ["soon", "middle", "late"]
    assert queue.urgency == min(entry.deadline for entry in entries)


async def test_an_entry_takes_a_place_while_it_is_decoded_but_no_batch_gets_it():
    queue, (ready,) = filled(("x1", 50))
    decoding = push(queue, seconds=10)
    assert (len(queue), list(queue.waiting)) == (2, [ready])
    assert queue.peek(now()) is ready
    assert queue.urgency == ready.deadline
    batch = OpenBatch("x", narrow=False)
    queue.fill(batch.add, "x", 2)
    assert batch.close() == ["x1"]
    assert queue.after(decoding.flow, 0.0) == [decoding]
    queue.set_ready(decoding, "x2", "x")
    assert names(queue) == ["x2"]


async def test_a_deadline_splits_the_entries_of_both_states():
    queue, (ready_20, ready_40) = filled(("x1", 20), ("x2", 40))
    decoding_10, decoding_30, decoding_50 = (push(queue, seconds) for seconds in (10, 30, 50))
    expected = [decoding_10, ready_20, decoding_30, ready_40, decoding_50]
    flow = ready_20.flow
    assert queue.after(flow, 0.0) == expected
    assert queue.after(flow, now() + 25) == expected[2:]
    assert queue.after(flow, decoding_30.deadline) == expected[3:]
    assert queue.after(flow, now() + 45) == expected[4:]
    assert queue.after(flow, now() + 60) == []
    assert list(queue.after("another", 0.0)) == []


async def test_a_cancelled_entry_is_dropped_and_an_expired_one_fails():
    queue, (cancelled, expired, kept) = filled(("cancelled", 50), ("expired", 0), ("kept", 50))
    cancelled.future.cancel()
    assert queue.peek(now()) is kept
    assert (len(queue), list(queue.waiting)) == (1, [kept])
    assert isinstance(expired.future.exception(), DeadlineExceeded)
    assert cancelled.state == expired.state == "done"


async def test_an_empty_queue_has_no_urgency_and_no_age():
    queue, (entry,) = filled(("only", 50))
    queue.remove(entry)
    queue.remove(entry)
    assert queue.peek(now()) is None
    assert queue.oldest_age() == 0
    assert queue.urgency == float("inf")


@pytest.mark.parametrize("state", get_args(State))
async def test_leaving_the_block_frees_the_place_once_in_every_state(state):
    queue: RequestQueue[str, str] = RequestQueue()
    other = push(queue, seconds=20)
    with push(queue, seconds=20) as entry:
        if state != "decoding":
            queue.set_ready(entry, "x", "x")
        if state == "running":
            queue.fill(lambda entry: True, "x", 1)
        if state == "done":
            queue.remove(entry)
        assert entry.state == state
    assert entry.state == "done"
    assert queue.after(other.flow, 0.0) == [other]
    assert (list(queue.waiting), queue.running) == ([], 0)


async def test_unservable_entries_expire_only_while_others_fill_the_batch():
    queue, entries = filled(("a", 1), ("b", 2), ("c", 3), ("d", 60))
    queue.peek(now())
    queue.expire_unservable(2, batch_s=10)
    assert names(queue) == ["c", "d"]  # as many as the batch takes
    assert all(isinstance(entry.future.exception(), DeadlineExceeded) for entry in entries[:2])


async def test_a_cancelled_entry_is_not_moved_into_a_batch():
    queue, (_, cancelled, _) = filled(("x1", 10), ("x2", 11), ("x3", 12))
    cancelled.future.cancel()
    batch = OpenBatch("x", narrow=False)
    queue.fill(batch.add, "x", 2)
    assert batch.close() == ["x1", "x3"]
    assert names(queue) == []
    assert (len(queue), queue.running) == (0, 2)


async def test_entries_with_an_equal_key_move_into_a_batch_until_it_is_full_or_closed():
    queue, _ = filled(("x1", 10), ("y1", 11), ("x2", 12), ("x3", 13))
    queue.peek(now())
    batch = OpenBatch("x", narrow=False)
    queue.fill(batch.add, "x", 2)
    assert batch.close() == ["x1", "x2"]
    assert names(queue) == ["y1", "x3"]
    queue.fill(batch.add, "x", 2)
    assert names(queue) == ["y1", "x3"]
    assert queue.running == 2


def ready(queue: RequestQueue[str, str], name: str, **options: object) -> Entry[str, str]:
    """Push a waiting entry; its key is the first letter of its name."""
    entry = push(queue, seconds=60, **options)
    queue.set_ready(entry, name, name[0])
    return entry


async def test_clients_take_turns_in_a_batch():
    queue: RequestQueue[str, str] = RequestQueue()
    queue.item_s = 0.1
    for number in range(4):
        ready(queue, f"x{number}", client="first")
    ready(queue, "x8", client="second")
    ready(queue, "x9", client="second")
    batch = OpenBatch("x", narrow=False)
    queue.fill(batch.add, "x", 4)
    assert batch.close() == ["x0", "x8", "x1", "x9"]
    assert names(queue) == ["x2", "x3"]


async def test_a_batch_gets_no_more_extra_work_than_its_limit():
    queue: RequestQueue[str, str] = RequestQueue()
    for name, extra_s in [("x1", 0.1), ("x2", 3.0), ("x3", 0.1), ("x4", 0.1)]:
        ready(queue, name, extra_s=extra_s)
    batch = OpenBatch("x", narrow=False)
    queue.fill(batch.add, "x", 9, extra_s=0.25)
    assert batch.close() == ["x1", "x3"]
    assert queue.running_extra_s == pytest.approx(0.2)
    assert queue.peek(now()).item == "x2"  # its flow has used less


async def test_the_queue_is_contested_while_one_client_has_most_places_and_another_comes():
    queue: RequestQueue[str, str] = RequestQueue()
    first = [push(queue, seconds=60, client="first") for _ in range(2)]
    first += [push(queue, seconds=60, client="first") for _ in range(2)]
    queue.remove(push(queue, seconds=60, client="second"))
    assert queue.contested
    others = [push(queue, seconds=60, client=f"guest {number}") for number in range(4)]
    assert not queue.contested  # the first client has half of the places
    for entry in [*others, *first]:
        queue.remove(entry)
    assert not queue.contested


async def test_the_requests_of_a_single_client_are_not_contested():
    queue: RequestQueue[str, str] = RequestQueue()
    for _ in range(3):
        push(queue, seconds=60, client="first")
    assert not queue.contested


async def test_clients_whose_requests_are_more_than_a_second_apart_do_not_compete(monkeypatch):
    queue: RequestQueue[str, str] = RequestQueue()
    loop, clock = asyncio.get_running_loop(), now()
    monkeypatch.setattr(loop, "time", lambda: clock)
    for client in ("first", "second", "first"):
        queue.remove(push(queue, seconds=60, client=client))
        push(queue, seconds=60, client="first")
        clock += 1.5
    assert not queue.contested
    push(queue, seconds=60, client="first")
    queue.remove(push(queue, seconds=60, client="second"))
    assert queue.contested
    clock += 1.5
    assert not queue.contested
