"""Work for a client: its result, and its end at a disconnect or at the deadline."""

import asyncio

import pytest

from app.api.inference import run_until_disconnect
from app.core.errors import ClientGone, InvalidImage
from app.core.scope import Client

pytestmark = pytest.mark.anyio


class Work:
    """Work that ends when the test opens its gate."""

    def __init__(self) -> None:
        self.gate, self.started = asyncio.Event(), asyncio.Event()
        self.outcome = "running"

    async def __call__(self) -> str:
        self.started.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise
        self.outcome = "done"
        return "result"


async def fail() -> str:
    raise InvalidImage("no picture")


@pytest.fixture
def client():
    client = Client()
    yield client
    client.on_disconnect()  # a callback that is still registered would now cancel the test


def start(work, client, within_s=30.0):
    deadline = asyncio.get_running_loop().time() + within_s
    return asyncio.create_task(run_until_disconnect(deadline, client, work))


async def test_work_returns_its_result_while_the_client_is_connected(client):
    work = Work()
    work.gate.set()
    assert await start(work(), client) == "result"


async def test_an_error_of_the_work_is_raised(client):
    with pytest.raises(InvalidImage, match="no picture"):
        await start(fail(), client)


async def test_work_is_cancelled_when_the_client_disconnects(client):
    work = Work()
    task = start(work(), client)
    await work.started.wait()
    client.on_disconnect()
    with pytest.raises(ClientGone):
        await task
    assert work.outcome == "cancelled"


async def test_work_for_a_client_that_has_disconnected_is_not_started(client):
    work = Work()
    client.on_disconnect()
    with pytest.raises(ClientGone):
        await start(work(), client)
    assert not work.started.is_set()


async def test_cancelling_the_task_cancels_the_work(client):
    work = Work()
    task = start(work(), client)
    await work.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.outcome == "cancelled"


async def test_a_disconnect_after_the_result_does_not_cancel_later_work(client):
    work = Work()
    work.gate.set()

    async def with_later_work() -> str:
        deadline = asyncio.get_running_loop().time() + 0.01
        result = await run_until_disconnect(deadline, client, work())
        client.on_disconnect()
        await asyncio.sleep(0.02)  # the deadline passes, too
        return result

    assert await asyncio.create_task(with_later_work()) == "result"


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_task_that_is_cancelled_and_disconnected_at_once_stays_cancelled(
    client, cancelled_first
):
    work = Work()
    task = start(work(), client)
    await work.started.wait()
    ends = [task.cancel, client.on_disconnect]
    for end in ends if cancelled_first else reversed(ends):
        end()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.outcome == "cancelled"


async def test_work_is_cancelled_at_its_deadline(client):
    work = Work()
    with pytest.raises(TimeoutError):
        await start(work(), client, within_s=0.01)
    assert work.outcome == "cancelled"


async def test_an_outer_timeout_cancels_the_work(client):
    work = Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run_until_disconnect(asyncio.get_running_loop().time() + 30, client, work())
    assert work.outcome == "cancelled"
