"""One image's way: its timings, and the caller that may leave."""

import asyncio

import pytest

from app.errors import ClientGone, InvalidImage
from app.trips import Trip, unless_gone

pytestmark = pytest.mark.anyio


class Connection:
    """ASGI's receive after the body: nothing comes until the caller leaves."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.watchers = 0

    async def unwatched(self) -> None:
        """Let the loop have its turns until nobody watches."""
        while self.watchers:  # noqa: ASYNC110  # nothing tells when
            await asyncio.sleep(0)

    async def receive(self) -> dict[str, str]:
        self.watchers += 1
        try:
            await self.gone.wait()
        finally:
            self.watchers -= 1
        return {"type": "http.disconnect"}


class Work:
    """Something that takes until its gate opens, and knows how it ended."""

    def __init__(self) -> None:
        self.gate, self.begun = asyncio.Event(), asyncio.Event()
        self.ending = "not yet"

    async def __call__(self) -> str:
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ending = "cancelled"
            raise
        self.ending = "done"
        return "answer"


async def fail() -> str:
    raise InvalidImage("no picture")


def test_the_stages_become_a_server_timing_header():
    trip = Trip(deadline=1.0, stages={"read": 0.0004, "decode": 1.23456})
    assert trip.server_timing() == 'read;dur=0.40, decode;dur=1234.56, batch;desc="0"'
    trip.stages["queue"] = 0.0
    trip.batch_size = 3
    assert trip.server_timing().endswith('queue;dur=0.00, batch;desc="3"')


def test_a_trip_begins_at_the_decoder_with_stages_of_its_own():
    first, second = Trip(1.0), Trip(2.0)
    first.stages["read"] = 1.0
    assert first.place == "decode"
    assert second.stages == {}
    assert second.server_timing() == 'batch;desc="0"'


async def test_work_is_answered_while_the_caller_stays():
    connection, work = Connection(), Work()
    work.gate.set()
    assert await unless_gone(connection.receive, work()) == "answer"
    await connection.unwatched()


async def test_work_that_fails_fails_for_its_caller():
    connection = Connection()
    with pytest.raises(InvalidImage, match="no picture"):
        await unless_gone(connection.receive, fail())
    await connection.unwatched()


async def test_work_is_given_up_when_the_caller_leaves():
    connection, work = Connection(), Work()
    answering = asyncio.create_task(unless_gone(connection.receive, work()))
    await work.begun.wait()
    connection.gone.set()
    with pytest.raises(ClientGone):
        await answering
    assert work.ending == "cancelled"


async def test_a_caller_that_had_left_before_gets_no_work_done():
    connection, work = Connection(), Work()
    connection.gone.set()
    with pytest.raises(ClientGone):
        await unless_gone(connection.receive, work())
    assert work.ending == "cancelled"


async def test_an_answer_that_is_ready_when_the_caller_leaves_is_an_answer():
    connection, work = Connection(), Work()
    answering = asyncio.create_task(unless_gone(connection.receive, work()))
    await work.begun.wait()
    work.gate.set()
    connection.gone.set()
    assert await answering == "answer"


async def test_whoever_gives_up_the_whole_leaves_nothing_behind():
    connection, work = Connection(), Work()
    answering = asyncio.create_task(unless_gone(connection.receive, work()))
    await work.begun.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert work.ending == "cancelled"
    await connection.unwatched()


async def test_a_caller_that_leaves_once_the_answer_is_there_does_not_cancel_what_follows():
    connection, work = Connection(), Work()
    work.gate.set()
    answer = await unless_gone(connection.receive, work())
    connection.gone.set()
    await connection.unwatched()
    for _ in range(3):  # what watched has ended, and tells so a turn later
        await asyncio.sleep(0)
    assert answer == "answer"


@pytest.mark.parametrize("turns", [0, 1, 2])  # of the loop, from the one to the other
async def test_who_is_cancelled_and_left_at_once_stays_cancelled(turns):
    connection, work = Connection(), Work()
    answering = asyncio.create_task(unless_gone(connection.receive, work()))
    await work.begun.wait()
    connection.gone.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert work.ending == "cancelled"
    await connection.unwatched()


async def test_a_deadline_around_it_cancels_the_work():
    connection, work = Connection(), Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await unless_gone(connection.receive, work())
    assert work.ending == "cancelled"
    await connection.unwatched()
