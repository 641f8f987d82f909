"""The device's thread: order, errors, callers that leave, and its end."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from app.engine.lanes import Lane

pytestmark = pytest.mark.anyio

PATIENCE_S = 30


class Gate:
    """Work that has begun when `begun` is set and ends when the gate opens."""

    def __init__(self, result: object = None) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()
        self.result = result

    def __call__(self) -> object:
        self.begun.set()
        assert self.opened.wait(PATIENCE_S)
        return self.result


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def wait_for(event: threading.Event) -> asyncio.Future[bool]:
    return asyncio.get_running_loop().run_in_executor(None, event.wait, PATIENCE_S)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def busy() -> list[float]:
    return []


@pytest.fixture
def lane(busy) -> Iterator[Lane]:
    lane = Lane("cpu", busy.append)
    yield lane
    lane.close()


async def test_work_runs_in_order_on_one_thread_of_its_own(lane):
    seen = []

    def work(number: int) -> int:
        seen.append((number, threading.current_thread().name))
        return number * 2

    results = await asyncio.gather(*(lane.run(lambda n=n: work(n)) for n in range(50)))
    assert results == [n * 2 for n in range(50)]
    assert seen == [(n, "lane-cpu") for n in range(50)]


async def test_errors_come_back_as_they_are(lane):
    error = ValueError("of the work")
    with pytest.raises(ValueError, match="of the work") as raised:
        await lane.run(raising(error))
    assert raised.value is error
    assert await lane.run(lambda: "next") == "next"


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        StopIteration(),
    ],
    ids=repr,
)
async def test_what_would_end_a_thread_or_a_loop_is_an_error_like_others(lane, error):
    with pytest.raises(RuntimeError, match=type(error).__name__) as raised:
        await lane.run(raising(error))
    assert raised.value.__cause__ is error
    assert lane.alive
    assert await lane.run(lambda: "next") == "next"


async def test_a_caller_that_left_harms_nothing(lane):
    gate = Gate()
    left = asyncio.ensure_future(lane.run(gate))
    stays = asyncio.ensure_future(lane.run(lambda: "stays"))
    await wait_for(gate.begun)
    left.cancel()
    await settle()
    assert left.cancelled()
    gate.opened.set()
    assert await stays == "stays"


async def test_an_error_for_a_caller_that_left_harms_nothing(lane):
    gate = Gate()

    def fail() -> None:
        gate()
        raise ValueError("nobody hears it")

    left = asyncio.ensure_future(lane.run(fail))
    await wait_for(gate.begun)
    left.cancel()
    await settle()
    gate.opened.set()
    assert await lane.run(lambda: "next") == "next"


async def test_it_is_busy_for_as_long_as_its_work_takes(lane, busy):
    assert lane.busy_for() == 0.0
    gate = Gate()
    working = asyncio.ensure_future(lane.run(gate))
    await wait_for(gate.begun)
    began = lane.busy_since
    assert 0.0 <= lane.busy_for() <= time.monotonic() - began
    first = lane.busy_for()
    while lane.busy_for() == first:
        pass  # the clock goes on
    gate.opened.set()
    await working
    await lane.run(lambda: None)  # by now the first is counted
    assert len(busy) >= 1
    assert busy[0] >= 0.0


async def test_an_idle_lane_is_not_busy(lane):
    settled = threading.Event()
    counted = Lane("counted", lambda seconds: settled.set())
    await counted.run(lambda: None)
    await wait_for(settled)
    assert counted.busy_for() == 0.0
    counted.close()


async def test_only_watched_work_is_ever_stuck(lane):
    for watched in (True, False):
        gate = Gate()
        working = asyncio.ensure_future(lane.run(gate, watched=watched))
        await wait_for(gate.begun)
        assert (lane.busy_since is not None) is watched
        gate.opened.set()
        await working


async def test_a_lane_has_ten_times_the_patience_that_its_slowest_batch_needs(lane):
    assert lane.stuck_after_s == 30.0
    for seconds in (4.0, 1.0):
        lane.expect(seconds)
    assert lane.stuck_after_s == 40.0


async def test_every_piece_of_work_is_counted_also_what_fails(busy):
    counted = threading.Semaphore(0)
    lane = Lane("cpu", lambda seconds: (busy.append(seconds), counted.release()))
    await lane.run(lambda: None)
    with pytest.raises(ValueError, match="of the work"):
        await lane.run(raising(ValueError("of the work")))
    for _ in range(2):
        assert counted.acquire(timeout=PATIENCE_S)
    assert len(busy) == 2
    lane.close()


async def test_closing_ends_the_thread_after_the_work_it_has():
    lane, gate = Lane("closing", lambda seconds: None), Gate("done")
    thread = next(one for one in threading.enumerate() if one.name == "lane-closing")
    working = [asyncio.ensure_future(lane.run(work)) for work in (gate, lambda: "too")]
    await wait_for(gate.begun)
    lane.close()
    assert lane.alive
    gate.opened.set()
    assert await asyncio.gather(*working) == ["done", "too"]
    thread.join(PATIENCE_S)
    assert not lane.alive


async def test_a_lane_does_not_keep_a_process_alive(lane):
    thread = next(one for one in threading.enumerate() if one.name == "lane-cpu")
    assert thread.daemon


@pytest.mark.parametrize("error", [None, ValueError("nobody hears it")], ids=repr)
def test_a_loop_that_closed_in_the_meantime_harms_nothing(error):
    gate, counted = Gate(), threading.Event()

    async def make() -> Lane:
        lane = Lane("orphan", lambda seconds: counted.set())
        working = asyncio.ensure_future(
            lane.run(lambda: (gate(), raising(error)() if error else 0))
        )
        await wait_for(gate.begun)
        working.cancel()
        return lane

    lane = asyncio.run(make())
    gate.opened.set()
    assert counted.wait(PATIENCE_S)

    async def ask() -> str:
        return await lane.run(lambda: "next")

    assert asyncio.run(ask()) == "next"
    lane.close()


async def test_the_next_piece_is_started_before_the_first_is_waited_for(lane):
    told, hold = [], Gate()

    def start(name: str) -> Callable[[], str]:
        told.append(f"start {name}")

        def finish() -> str:
            told.append(f"finish {name}")
            return name

        return finish

    held = asyncio.ensure_future(lane.run(hold))
    await wait_for(hold.begun)
    answers = [asyncio.ensure_future(lane.launch(lambda n=n: start(n))) for n in "abc"]
    await settle()
    hold.opened.set()
    assert await asyncio.gather(*answers) == ["a", "b", "c"]
    await held
    assert told == ["start a", "start b", "finish a", "start c", "finish b", "finish c"]


async def test_a_lone_piece_is_waited_for_at_once(lane):
    assert await lane.launch(lambda: lambda: "alone") == "alone"


@pytest.mark.parametrize("half", ["start", "finish"])
async def test_either_half_of_a_piece_may_fail(lane, half):
    fail = raising(ValueError("of the work"))
    with pytest.raises(ValueError, match="of the work"):
        await lane.launch(fail if half == "start" else lambda: fail)
    assert await lane.launch(lambda: lambda: "next") == "next"


async def test_what_was_started_is_finished_before_the_lane_ends():
    lane, hold = Lane("closing", lambda seconds: None), Gate()
    held = asyncio.ensure_future(lane.run(hold))
    await wait_for(hold.begun)
    answer = asyncio.ensure_future(lane.launch(lambda: lambda: "finished"))
    await settle()
    lane.close()
    hold.opened.set()
    assert await answer == "finished"
    await held


async def test_each_lane_has_torch_threads_of_its_own():
    lanes = [Lane(f"of {count}", lambda seconds: None, threads=count) for count in (1, 2)]
    for _ in range(2):
        assert [await lane.run(torch.get_num_threads) for lane in lanes] == [1, 2]
    for lane in lanes:
        lane.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
async def test_a_lane_on_the_cores_stands_back_behind_the_event_loop():
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    polite, equal = Lane("polite", print, threads=1), Lane("equal", print)
    assert await polite.run(niceness) > niceness()
    assert await equal.run(niceness) == niceness()
    polite.close()
    equal.close()
