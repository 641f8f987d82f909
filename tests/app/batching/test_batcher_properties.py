"""The batcher under random arrivals, disconnects, deadlines and failures: one result per item."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from app.batching.batcher import Batcher
from app.batching.costs import CostTable
from app.batching.scheduler import DeviceScheduler
from app.core.errors import DeadlineExceeded, Internal, NotReady, Overloaded

MAX_BATCH, MAX_QUEUE = 4, 12
LANES = ("wide", "first", "second")

Item = tuple[int, str]  # its number and its outcome


@dataclass
class Lanes:
    """Fake lanes: each holds its batches in order, and starts and ends them on events."""

    held: dict[str, deque[tuple[Callable[[], Sequence[Item]], asyncio.Future]]] = field(
        default_factory=lambda: {lane: deque() for lane in LANES}
    )
    started: dict[str, list[Item]] = field(default_factory=dict)
    ran: list[list[Item]] = field(default_factory=list)

    def send(
        self, lane: str, take_items: Callable[[], Sequence[Item]], settle: object
    ) -> asyncio.Future:
        future = asyncio.get_running_loop().create_future()
        self.held[lane].append((take_items, future))
        return future

    def start(self, lane: str) -> None:
        if self.held[lane] and lane not in self.started:
            self.started[lane] = list(self.held[lane][0][0]())
            self.ran.append(self.started[lane])

    def end(self, lane: str, *, fails: bool) -> None:
        if lane not in self.started:
            return
        items, (_, future) = self.started.pop(lane), self.held[lane].popleft()
        if future.cancelled():
            return
        if fails:
            future.set_exception(ValueError("all"))
        else:
            future.set_result([ValueError("one") if kind == "bad" else n for n, kind in items])


events = st.one_of(
    st.tuples(st.just("arrive"), st.sampled_from("kl"), st.sampled_from(["good", "bad", "late"])),
    st.tuples(st.just("disconnect"), st.integers(0, 40)),
    st.tuples(st.just("start"), st.sampled_from(LANES)),
    st.tuples(st.just("end"), st.sampled_from(LANES), st.booleans()),
    st.tuples(st.just("pause")),
)
devices = st.sampled_from([((), 1), ((), 3), (("first", "second"), 1)])


async def run_tasks() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


class Simulation:
    """One schedule of events on one batcher, and its outcome."""

    def __init__(self, narrow: tuple[str, ...], depth: int, slow_decodes: bool = False) -> None:
        self.lanes = Lanes()
        self.slow_decodes = slow_decodes
        self.one_lane = not narrow
        self.tasks: list[asyncio.Task[int]] = []
        self.requests: list[tuple[str, str]] = []
        self.failed: set[int] = set()
        self.disconnected: set[int] = set()
        self.batcher: Batcher[Item, int, str] = Batcher(
            self.lanes.send,
            scheduler=DeviceScheduler("wide", narrow, depth=depth),
            max_batch_size=MAX_BATCH,
            max_queue_size=MAX_QUEUE,
        )
        table = {1: 0.001, 2: 0.0015, 4: 0.002}
        self.batcher.measured(CostTable(table, table if narrow else {}, max(1, len(narrow))))

    async def _request(self, number: int, key: str, kind: str) -> int:
        deadline = asyncio.get_running_loop().time() + (0 if kind == "late" else 60)
        with self.batcher.admission.reserve(deadline) as entry:
            for _ in range(number % 4 if self.slow_decodes else 0):
                await asyncio.sleep(0)  # the image is decoded, which takes different times
            return await self.batcher.run(entry, (number, kind), key)

    async def event(self, name: str, *details: object) -> None:
        match name:
            case "arrive":
                self.requests.append(details)
                self.tasks.append(asyncio.create_task(self._request(len(self.tasks), *details)))
            case "disconnect" if details[0] < len(self.tasks) and not self.tasks[details[0]].done():
                self.disconnected.add(details[0])
                self.tasks[details[0]].cancel()
            case "start":
                self.lanes.start(*details)
            case "end":
                lane, fails = details
                if fails:
                    self.failed |= {number for number, _ in self.lanes.started.get(lane, [])}
                self.lanes.end(lane, fails=fails)
            case "pause":
                await run_tasks()

    async def finish(self) -> None:
        """Run every batch of every lane until no item waits."""
        for _ in range(len(self.tasks) + 4):
            await run_tasks()
            for lane in LANES:
                self.lanes.start(lane)
                self.lanes.end(lane, fails=False)
        await run_tasks()

    def check(self) -> None:
        ran = [item for batch in self.lanes.ran for item in batch]
        assert max(Counter(number for number, _ in ran).values(), default=1) == 1
        assert all(len(batch) <= MAX_BATCH for batch in self.lanes.ran)
        for batch in self.lanes.ran:
            assert len({self.requests[number][0] for number, _ in batch}) <= 1
        assert not any(kind == "late" for _, kind in ran)
        for number, (task, (_, kind)) in enumerate(zip(self.tasks, self.requests, strict=True)):
            assert task.done()
            self._check_result(number, task, kind)
        if not self.slow_decodes:
            self._check_order([ran] if self.one_lane else self.lanes.ran)
        queue = self.batcher.queue
        assert (len(queue), queue.running, self.batcher.waiting) == (0, 0, 0)

    def _check_order(self, sequences: list[list[Item]]) -> None:
        for items in sequences:
            for key in "kl":  # items of one key run in the order of their deadlines
                order = [number for number, _ in items if self.requests[number][0] == key]
                assert order == sorted(order)

    def _check_result(self, number: int, task: asyncio.Task[int], kind: str) -> None:
        if task.cancelled():
            assert number in self.disconnected
            return
        error = task.exception()
        if isinstance(error, Overloaded):
            assert number not in {n for batch in self.lanes.ran for n, _ in batch}
        elif kind == "late":
            assert isinstance(error, DeadlineExceeded)
        elif kind == "bad" or number in self.failed:
            assert isinstance(error, Internal)
        else:
            assert task.result() == number


@settings(max_examples=300, deadline=None, derandomize=True)
@given(devices, st.booleans(), st.lists(events, max_size=60))
def test_every_item_gets_its_own_result_once_and_the_queue_is_empty_at_the_end(
    device, slow_decodes, schedule
):
    async def simulate() -> None:
        simulation = Simulation(*device, slow_decodes)
        async with simulation.batcher:
            for event in schedule:
                await simulation.event(*event)
            await simulation.finish()
            simulation.check()

    asyncio.run(simulate())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(devices, st.booleans(), st.lists(events, max_size=40))
def test_closing_at_any_moment_ends_every_request(device, slow_decodes, schedule):
    async def simulate() -> None:
        simulation = Simulation(*device, slow_decodes)
        async with simulation.batcher:
            for event in schedule:
                await simulation.event(*event)
            await run_tasks()
        await run_tasks()
        for task in simulation.tasks:
            assert task.done()
            if not task.cancelled() and task.exception() is not None:
                kinds = (NotReady, Internal, DeadlineExceeded, Overloaded)
                assert isinstance(task.exception(), kinds)
        queue = simulation.batcher.queue
        assert (len(queue), queue.running) == (0, 0)

    asyncio.run(simulate())
