"""A lane: order of the work, errors, cancelled futures, and the end of its thread."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from app.engine.lanes import NICENESS, Lane

pytestmark = pytest.mark.anyio

TIMEOUT_S = 30


class Gate:
    """Work that sets `started` and ends when the test sets `opened`."""

    def __init__(self, result: object = None) -> None:
        self.started, self.opened = threading.Event(), threading.Event()
        self.result = result

    def __call__(self) -> object:
        self.started.set()
        assert self.opened.wait(TIMEOUT_S)
        return self.result


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def wait_for(event: threading.Event) -> asyncio.Future[bool]:
    return asyncio.get_running_loop().run_in_executor(None, event.wait, TIMEOUT_S)


async def run_tasks() -> None:
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


async def test_other_threads_call_the_lane_and_get_results_and_errors(lane):
    first = Gate("first")
    launched = threading.Event()

    def launch_second() -> Callable[[], str]:
        launched.set()
        return lambda: "second"

    slow = asyncio.ensure_future(asyncio.to_thread(lane.call, lambda: first))
    await wait_for(first.started)
    fast = asyncio.ensure_future(asyncio.to_thread(lane.call, launch_second))
    assert not launched.is_set()  # the lane waits for the first result
    first.opened.set()
    assert await asyncio.gather(slow, fast) == ["first", "second"]
    for failing in (raising(ValueError("of the work")), lambda: raising(ValueError("of the work"))):
        with pytest.raises(ValueError, match="of the work"):
            await asyncio.to_thread(lane.call, failing)


async def test_errors_are_raised_unchanged(lane):
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
async def test_an_exception_that_would_end_the_thread_or_the_loop_is_wrapped(lane, error):
    with pytest.raises(RuntimeError, match=type(error).__name__) as raised:
        await lane.run(raising(error))
    assert raised.value.__cause__ is error
    assert lane.alive
    assert await lane.run(lambda: "next") == "next"


async def test_after_a_cancelled_future_the_lane_continues(lane):
    gate = Gate()
    cancelled = asyncio.ensure_future(lane.run(gate))
    kept = asyncio.ensure_future(lane.run(lambda: "kept"))
    await wait_for(gate.started)
    cancelled.cancel()
    await run_tasks()
    assert cancelled.cancelled()
    gate.opened.set()
    assert await kept == "kept"


async def test_after_an_error_for_a_cancelled_future_the_lane_continues(lane):
    gate = Gate()

    def fail() -> None:
        gate()
        raise ValueError("for a cancelled future")

    cancelled = asyncio.ensure_future(lane.run(fail))
    await wait_for(gate.started)
    cancelled.cancel()
    await run_tasks()
    gate.opened.set()
    assert await lane.run(lambda: "next") == "next"


async def test_a_lane_is_busy_while_its_work_runs(lane, busy):
    assert lane.busy_for() == 0.0
    gate = Gate()
    working = asyncio.ensure_future(lane.run(gate))
    await wait_for(gate.started)
    start = lane.busy_since
    assert 0.0 <= lane.busy_for() <= time.monotonic() - start
    first = lane.busy_for()
    while lane.busy_for() == first:
        pass  # until the clock has advanced
    gate.opened.set()
    await working
    await lane.run(lambda: None)  # the first work is counted before this one runs
    assert len(busy) >= 1
    assert busy[0] >= 0.0


async def test_an_idle_lane_is_not_busy(lane):
    settled = threading.Event()
    counted = Lane("counted", lambda seconds: settled.set())
    await counted.run(lambda: None)
    await wait_for(settled)
    assert counted.busy_for() == 0.0
    counted.close()


async def test_only_watched_work_sets_busy_since(lane):
    for watched in (True, False):
        gate = Gate()
        working = asyncio.ensure_future(lane.run(gate, watched=watched))
        await wait_for(gate.started)
        assert (lane.busy_since is not None) is watched
        gate.opened.set()
        await working


async def test_a_lane_counts_as_stuck_after_ten_times_its_slowest_batch(lane):
    assert lane.stuck_after_s == 30.0
    for seconds in (4.0, 1.0):
        lane.allow_batch_s(seconds)
    assert lane.stuck_after_s == 40.0


async def test_a_lane_is_stuck_in_one_step_and_not_in_many_short_ones(lane):
    lane.stuck_after_s = 0.2
    step, told = Gate(), threading.Event()

    def two_steps() -> None:
        step()
        lane.beat()
        told.set()
        assert end.wait(TIMEOUT_S)

    end = threading.Event()
    working = asyncio.ensure_future(lane.run(two_steps))
    await wait_for(step.started)
    lane.busy_since -= 0.3
    assert lane.stuck
    step.opened.set()
    await wait_for(told)
    assert not lane.stuck
    end.set()
    await working


async def test_progress_of_unwatched_work_does_not_start_a_watch(lane):
    await lane.run(lane.beat, watched=False)
    assert lane.busy_since is None


async def test_failed_work_counts_as_busy_time_too(busy):
    counted = threading.Semaphore(0)
    lane = Lane("cpu", lambda seconds: (busy.append(seconds), counted.release()))
    await lane.run(lambda: None)
    with pytest.raises(ValueError, match="of the work"):
        await lane.run(raising(ValueError("of the work")))
    for _ in range(2):
        assert counted.acquire(timeout=TIMEOUT_S)
    assert len(busy) == 2
    lane.close()


async def test_an_untimed_lane_counts_the_seconds_that_its_work_reports(busy):
    lane = Lane("gpu", busy.append, share=0.5, timed=False)
    await lane.run(lambda: lane.used(3.0))
    await lane.launch(lambda: lambda: None)
    assert busy == [1.5]
    lane.close()


async def test_a_timed_lane_ignores_the_seconds_that_its_work_reports(busy):
    counted = threading.Event()
    lane = Lane("cpu", lambda seconds: (busy.append(seconds), counted.set()))
    await lane.run(lambda: lane.used(1e6))
    assert counted.wait(TIMEOUT_S)
    assert busy[0] < 1e6
    lane.close()


async def test_closing_ends_the_thread_after_all_sent_work():
    lane, gate = Lane("closing", lambda seconds: None), Gate("done")
    working = [asyncio.ensure_future(lane.run(work)) for work in (gate, lambda: "too")]
    await wait_for(gate.started)
    thread = next(thread for thread in threading.enumerate() if thread.name == "lane-closing")
    lane.close()
    assert lane.alive
    gate.opened.set()
    assert await asyncio.gather(*working) == ["done", "too"]
    thread.join(TIMEOUT_S)
    assert not lane.alive


async def test_a_thread_that_cannot_start_fails_the_work_and_not_the_lane(lane, monkeypatch):
    def no_memory(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_memory)
        for future in (lane.run(lambda: "never"), lane.launch(lambda: lambda: "never")):
            with pytest.raises(RuntimeError, match="can't start"):
                await future
        with pytest.raises(RuntimeError, match="can't start"):
            lane.call(lambda: lambda: "never")
    assert lane.alive
    assert await lane.run(lambda: "later") == "later"


async def test_a_lane_that_is_closed_before_its_first_work_is_not_alive():
    lane = Lane("unused", lambda seconds: None)
    assert lane.alive
    lane.close()
    assert not lane.alive


async def test_a_lane_does_not_keep_a_process_alive(lane):
    await lane.run(lambda: None)
    thread = next(thread for thread in threading.enumerate() if thread.name == "lane-cpu")
    assert thread.daemon


@pytest.mark.parametrize("error", [None, ValueError("for a cancelled future")], ids=repr)
def test_a_lane_continues_after_the_loop_of_its_work_has_closed(error):
    gate, counted = Gate(), threading.Event()

    async def make() -> Lane:
        lane = Lane("orphan", lambda seconds: counted.set())
        working = asyncio.ensure_future(
            lane.run(lambda: (gate(), raising(error)() if error else 0))
        )
        await wait_for(gate.started)
        working.cancel()
        return lane

    lane = asyncio.run(make())
    gate.opened.set()
    assert counted.wait(TIMEOUT_S)

    async def run_next() -> str:
        return await lane.run(lambda: "next")

    assert asyncio.run(run_next()) == "next"
    lane.close()


async def test_the_next_work_starts_before_the_lane_waits_for_the_first(lane):
    order, gate = [], Gate()

    def start(name: str) -> Callable[[], str]:
        order.append(f"start {name}")

        def finish() -> str:
            order.append(f"finish {name}")
            return name

        return finish

    held = asyncio.ensure_future(lane.run(gate))
    await wait_for(gate.started)
    results = [asyncio.ensure_future(lane.launch(lambda n=n: start(n))) for n in "abc"]
    await run_tasks()
    gate.opened.set()
    assert await asyncio.gather(*results) == ["a", "b", "c"]
    await held
    assert order == ["start a", "start b", "finish a", "start c", "finish b", "finish c"]


async def test_a_single_launched_work_is_waited_for_at_once(lane):
    assert await lane.launch(lambda: lambda: "alone") == "alone"


@pytest.mark.parametrize("half", ["start", "finish"])
async def test_either_half_of_launched_work_may_fail(lane, half):
    fail = raising(ValueError("of the work"))
    with pytest.raises(ValueError, match="of the work"):
        await lane.launch(fail if half == "start" else lambda: fail)
    assert await lane.launch(lambda: lambda: "next") == "next"


async def test_launched_work_is_finished_before_the_lane_ends():
    lane, gate = Lane("closing", lambda seconds: None), Gate()
    held = asyncio.ensure_future(lane.run(gate))
    await wait_for(gate.started)
    result = asyncio.ensure_future(lane.launch(lambda: lambda: "finished"))
    await run_tasks()
    lane.close()
    gate.opened.set()
    assert await result == "finished"
    await held


async def test_each_lane_has_its_own_number_of_torch_threads():
    lanes = [Lane(f"of {count}", lambda seconds: None, threads=count) for count in (1, 2)]
    for _ in range(2):
        assert [await lane.run(torch.get_num_threads) for lane in lanes] == [1, 2]
    for lane in lanes:
        lane.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
async def test_a_cpu_lane_has_a_lower_priority_than_the_event_loop():
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    cpu_lane, gpu_lane = Lane("cpu", print, threads=1), Lane("gpu", print)
    assert await cpu_lane.run(niceness) == min(19, niceness() + NICENESS)
    assert await gpu_lane.run(niceness) == niceness()
    cpu_lane.close()
    gpu_lane.close()


async def test_a_lane_runs_where_its_priority_cannot_be_lowered(monkeypatch):
    def refuse(*arguments: int) -> None:
        raise PermissionError("as a sandbox does")

    monkeypatch.setattr(os, "setpriority", refuse, raising=False)
    lane = Lane("cpu", print, threads=1)
    assert await lane.run(lambda: "result") == "result"
    lane.close()
