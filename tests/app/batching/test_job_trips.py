"""One image's way: its timings, and the caller that may leave."""

import asyncio

import pytest

from app.api.inference import run_until_disconnect
from app.batching.job import RequestContext
from app.core.errors import ClientGone, InvalidImage
from app.core.scope import Client

pytestmark = pytest.mark.anyio


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
    context = RequestContext(deadline=1.0, stages={"read": 0.0004, "decode": 1.23456})
    assert context.server_timing() == 'read;dur=0.40, decode;dur=1234.56, batch;desc="0"'
    context.stages["queue"] = 0.0
    context.batch_size = 3
    assert context.server_timing().endswith('queue;dur=0.00, batch;desc="3"')


def test_a_trip_begins_at_the_decoder_with_stages_of_its_own():
    first, second = RequestContext(1.0), RequestContext(2.0)
    first.stages["read"] = 1.0
    assert first.stage == "decode"
    assert second.stages == {}
    assert second.server_timing() == 'batch;desc="0"'


@pytest.fixture
def caller():
    caller = Client()
    yield caller
    caller.on_disconnect()  # whoever watched still would now cancel a test


def wanted(work, caller, within_s=30.0):
    deadline = asyncio.get_running_loop().time() + within_s
    return asyncio.create_task(run_until_disconnect(deadline, caller, work))


async def test_work_is_answered_while_the_caller_stays(caller):
    work = Work()
    work.gate.set()
    assert await wanted(work(), caller) == "answer"


async def test_work_that_fails_fails_for_its_caller(caller):
    with pytest.raises(InvalidImage, match="no picture"):
        await wanted(fail(), caller)


async def test_work_is_given_up_when_the_caller_leaves(caller):
    work = Work()
    answering = wanted(work(), caller)
    await work.begun.wait()
    caller.on_disconnect()
    with pytest.raises(ClientGone):
        await answering
    assert work.ending == "cancelled"


async def test_for_a_caller_that_had_left_before_no_work_is_begun(caller):
    work = Work()
    caller.on_disconnect()
    with pytest.raises(ClientGone):
        await wanted(work(), caller)
    assert not work.begun.is_set()


async def test_whoever_gives_up_the_whole_leaves_nothing_behind(caller):
    work = Work()
    answering = wanted(work(), caller)
    await work.begun.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert work.ending == "cancelled"


async def test_a_caller_that_leaves_once_the_answer_is_there_does_not_cancel_what_follows(caller):
    work = Work()
    work.gate.set()

    async def and_more() -> str:
        deadline = asyncio.get_running_loop().time() + 0.01
        answer = await run_until_disconnect(deadline, caller, work())
        caller.on_disconnect()
        await asyncio.sleep(0.02)  # the deadline passes, too
        return answer

    assert await asyncio.create_task(and_more()) == "answer"


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_who_is_cancelled_and_left_at_once_stays_cancelled(caller, cancelled_first):
    work = Work()
    answering = wanted(work(), caller)
    await work.begun.wait()
    ways = [answering.cancel, caller.on_disconnect]
    for way in ways if cancelled_first else reversed(ways):
        way()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert work.ending == "cancelled"


async def test_work_is_given_up_at_its_deadline(caller):
    work = Work()
    with pytest.raises(TimeoutError):
        await wanted(work(), caller, within_s=0.01)
    assert work.ending == "cancelled"


async def test_a_deadline_around_it_cancels_the_work(caller):
    work = Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run_until_disconnect(asyncio.get_running_loop().time() + 30, caller, work())
    assert work.ending == "cancelled"
