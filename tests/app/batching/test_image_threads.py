"""The image threads: turns, the budget of pixels, and requests that end at any time."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.batching.fair_queue import FlowKey
from app.batching.image_threads import ImageTask, ImageThreads

pytestmark = pytest.mark.anyio


class Work:
    """Work on a thread that ends when the test says so."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.end = threading.Event()

    def __call__(self) -> None:
        self.started.set()
        self.end.wait()


class Setup:
    """Two image threads with a budget of 10 pixels."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2)
        self.threads = ImageThreads(self.pool, 2, 10)
        self.decoded: list[str] = []
        self.works: list[Work] = []
        self.decodes: list[asyncio.Task[None]] = []

    async def decode(self, flow: str, pixels: int = 1, seconds: float = 1.0) -> None:
        task = ImageTask(FlowKey(flow), deadline=9.0, seconds=seconds, pixels=pixels, keep=True)
        try:
            await self.threads.decode(lambda: self.decoded.append(flow), task)
        finally:
            self.threads.close(task)

    def hold(self, pixels: int) -> tuple[asyncio.Task[None], Work]:
        """Decode until the test says so."""
        task, work = (
            ImageTask(FlowKey("held"), deadline=9.0, seconds=1.0, pixels=pixels, keep=True),
            Work(),
        )
        self.works.append(work)

        async def decode() -> None:
            try:
                await self.threads.decode(work, task)
            finally:
                self.threads.close(task)

        return asyncio.create_task(decode()), work


@pytest.fixture
async def setup():
    setup = Setup()
    yield setup
    for work in setup.works:
        work.end.set()
    setup.pool.shutdown()


async def started(*works: Work) -> None:
    for work in works:
        await asyncio.to_thread(work.started.wait)


async def test_expensive_decodes_delay_a_cheap_one_by_one_turn(setup):
    held, works = zip(*(setup.hold(1) for _ in range(2)), strict=True)
    await started(*works)
    waiting = [asyncio.create_task(setup.decode("costly", seconds=5.0)) for _ in range(4)]
    waiting.append(asyncio.create_task(setup.decode("cheap", seconds=0.1)))
    await asyncio.sleep(0)
    for work in works:
        work.end.set()
    await asyncio.gather(*held, *waiting)
    assert setup.decoded.index("cheap") <= 1
    assert setup.threads.held == 0


@pytest.mark.parametrize(("pass_s", "first"), [(60.0, ["small"]), (0.0, [])])
async def test_decodes_pass_one_that_does_not_fit_for_some_time(setup, monkeypatch, pass_s, first):
    monkeypatch.setattr("app.batching.image_threads.PASS_S", pass_s)
    held, work = setup.hold(8)
    await started(work)
    large = asyncio.create_task(setup.decode("large", pixels=5))
    await asyncio.sleep(0)
    small = asyncio.create_task(setup.decode("small", pixels=1))
    await asyncio.sleep(0.05)
    assert (setup.decoded, setup.threads.held) == (first, 8)
    work.end.set()
    await asyncio.gather(held, large, small)
    assert sorted(setup.decoded) == ["large", "small"]
    assert setup.threads.held == 0


async def test_an_encode_waits_for_its_turn_but_not_for_pixels(setup):
    held, works = zip(*(setup.hold(5) for _ in range(2)), strict=True)
    await started(*works)
    task = ImageTask(FlowKey("costly"), deadline=9.0, seconds=5.0, pixels=0, keep=True)
    done: list[str] = []
    await_encode = asyncio.create_task(setup.threads.encode(lambda: done.append("encode"), task))
    cheap = asyncio.create_task(setup.decode("cheap"))
    await asyncio.sleep(0.05)
    assert (done, setup.decoded) == ([], [])
    works[0].end.set()
    await asyncio.gather(held[0], await_encode, cheap)
    works[1].end.set()
    await held[1]


async def test_encodes_are_served_even_if_no_decode_fits(setup):
    tasks = [
        ImageTask(FlowKey("a"), deadline=number, seconds=1.0, pixels=5, keep=True)
        for number in (1.0, 2.0)
    ]
    for task in tasks:
        await setup.threads.decode(lambda: None, task)
    more = asyncio.create_task(setup.decode("a", pixels=9))
    await asyncio.sleep(0.01)
    for task in tasks:
        await setup.threads.encode(lambda: None, task)
        setup.threads.close(task)
    await more
    assert setup.decoded == ["a"]


async def test_a_task_that_waits_for_its_turn_can_be_dropped(setup):
    held, works = zip(*(setup.hold(1) for _ in range(2)), strict=True)
    await started(*works)
    task = ImageTask(FlowKey("a"), deadline=9.0, seconds=1.0, pixels=4, keep=True)
    decode = asyncio.create_task(setup.threads.decode(lambda: None, task))
    await asyncio.sleep(0)
    setup.threads.drop(task, ValueError("dropped"))
    with pytest.raises(ValueError, match="dropped"):
        await decode
    for work in works:
        work.end.set()
    await asyncio.gather(*held)
    setup.threads.drop(task, ValueError("too late"))
    setup.threads.close(task)
    await asyncio.to_thread(setup.pool.shutdown)
    assert (setup.threads.held, setup.threads.running) == (0, 0)


async def test_pixels_are_held_until_the_request_ends(setup):
    task = ImageTask(FlowKey("a"), deadline=9.0, seconds=1.0, pixels=4, keep=True)
    await setup.threads.decode(lambda: None, task)
    assert setup.threads.held == 4
    await setup.threads.encode(lambda: None, task)
    assert setup.threads.held == 4
    setup.threads.close(task)
    assert setup.threads.held == 0


async def test_pixels_of_a_cancelled_request_are_held_until_its_thread_is_done(setup):
    held, work = setup.hold(9)
    await started(work)
    held.cancel()
    with pytest.raises(asyncio.CancelledError):
        await held
    assert setup.threads.held == 9
    next_ = asyncio.create_task(setup.decode("next", pixels=2))
    await asyncio.sleep(0)
    work.end.set()
    await next_
    assert setup.threads.held == 0


@pytest.mark.parametrize("waits_for", ["a thread", "pixels"])
async def test_a_request_that_ends_while_it_waits_takes_nothing(setup, waits_for):
    count, pixels = (2, 1) if waits_for == "a thread" else (1, 10)
    held, works = zip(*(setup.hold(pixels) for _ in range(count)), strict=True)
    await started(*works)
    gone = asyncio.create_task(setup.decode("gone"))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    for work in works:
        work.end.set()
    await asyncio.gather(*held)
    await setup.decode("next", pixels=10)
    assert setup.decoded == ["next"]
    assert setup.threads.held == 0


async def test_a_request_that_ends_at_its_turn_gives_it_back(setup):
    gone = asyncio.create_task(setup.decode("gone"))
    await asyncio.sleep(0)  # it has its turn
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    held, works = zip(*(setup.hold(5) for _ in range(2)), strict=True)
    await started(*works)  # both threads are free
    for work in works:
        work.end.set()
    await asyncio.gather(*held)
    assert setup.threads.held == 0


async def test_a_failed_decode_gives_everything_back(setup):
    task = ImageTask(FlowKey("a"), deadline=9.0, seconds=1.0, pixels=4, keep=True)
    with pytest.raises(ZeroDivisionError):
        await setup.threads.decode(lambda: 1 // 0, task)
    setup.threads.close(task)
    assert setup.threads.held == 0


async def test_pixels_that_the_encode_does_not_need_are_released_after_the_decode(setup):
    task = ImageTask(FlowKey("a"), deadline=9.0, seconds=1.0, pixels=4, keep=False)
    await setup.threads.decode(lambda: None, task)
    await asyncio.to_thread(setup.pool.shutdown)
    assert setup.threads.held == 0
    setup.threads.close(task)
    assert setup.threads.held == 0


async def test_pixels_are_released_once_if_the_request_ends_during_the_decode(setup):
    task, work = ImageTask(FlowKey("a"), deadline=9.0, seconds=1.0, pixels=4, keep=False), Work()
    decode = asyncio.create_task(setup.threads.decode(work, task))
    await started(work)
    setup.threads.close(task)
    assert setup.threads.held == 4
    work.end.set()
    await decode
    await asyncio.to_thread(setup.pool.shutdown)
    assert setup.threads.held == 0


async def test_a_thread_starts_the_next_decode_while_the_event_loop_is_busy(setup):
    works = [Work() for _ in range(3)]
    setup.works += works
    for work in works:
        task = ImageTask(FlowKey("a"), deadline=9.0, seconds=1.0, pixels=1, keep=True)
        setup.decodes.append(asyncio.create_task(setup.threads.decode(work, task)))
    await started(*works[:2])
    works[0].end.set()
    assert works[2].started.wait(10)  # blocks the event loop
    works[1].end.set()
    works[2].end.set()
    await asyncio.gather(*setup.decodes)
