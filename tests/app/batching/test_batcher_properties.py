"""The queue under any arrivals, departures, deadlines and failures: all are settled once."""

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

Item = tuple[int, str]  # its number, and what becomes of it


@dataclass
class Lanes:
    """Fake lanes: each holds its batches in order, begins and ends when it is told to."""

    held: dict[str, deque[tuple[Callable[[], Sequence[Item]], asyncio.Future]]] = field(
        default_factory=lambda: {lane: deque() for lane in LANES}
    )
    begun: dict[str, list[Item]] = field(default_factory=dict)
    ran: list[list[Item]] = field(default_factory=list)

    def send(self, lane: str, take: Callable[[], Sequence[Item]]) -> asyncio.Future:
        future = asyncio.get_running_loop().create_future()
        self.held[lane].append((take, future))
        return future

    def begin(self, lane: str) -> None:
        if self.held[lane] and lane not in self.begun:
            self.begun[lane] = list(self.held[lane][0][0]())
            self.ran.append(self.begun[lane])

    def end(self, lane: str, *, fails: bool) -> None:
        if lane not in self.begun:
            return
        items, (_, future) = self.begun.pop(lane), self.held[lane].popleft()
        if future.cancelled():
            return
        if fails:
            future.set_exception(ValueError("all"))
        else:
            future.set_result([ValueError("one") if kind == "bad" else n for n, kind in items])


events = st.one_of(
    st.tuples(st.just("arrive"), st.sampled_from("kl"), st.sampled_from(["good", "bad", "late"])),
    st.tuples(st.just("leave"), st.integers(0, 40)),
    st.tuples(st.just("begin"), st.sampled_from(LANES)),
    st.tuples(st.just("end"), st.sampled_from(LANES), st.booleans()),
    st.tuples(st.just("pause")),
)
devices = st.sampled_from([((), 1), ((), 3), (("first", "second"), 1)])


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


class Play:
    """One schedule of events on one queue, and what came of it."""

    def __init__(self, narrow: tuple[str, ...], depth: int) -> None:
        self.lanes = Lanes()
        self.one_lane = not narrow
        self.tasks: list[asyncio.Task[int]] = []
        self.asked: list[tuple[str, str]] = []
        self.failed: set[int] = set()
        self.left: set[int] = set()
        self.queue: Batcher[Item, int, str] = Batcher(
            self.lanes.send,
            scheduler=DeviceScheduler("wide", narrow, depth=depth),
            max_batch_size=MAX_BATCH,
            max_queue_size=MAX_QUEUE,
        )
        table = {1: 0.001, 2: 0.0015, 4: 0.002}
        self.queue.measured(CostTable(table, table if narrow else {}, max(1, len(narrow))))

    async def _ask(self, number: int, key: str, kind: str) -> int:
        deadline = asyncio.get_running_loop().time() + (0 if kind == "late" else 60)
        with self.queue.admission.reserve(deadline) as ticket:
            return await self.queue.run(ticket, (number, kind), key)

    async def event(self, what: str, *how: object) -> None:
        match what:
            case "arrive":
                self.asked.append(how)
                self.tasks.append(asyncio.create_task(self._ask(len(self.tasks), *how)))
            case "leave" if how[0] < len(self.tasks) and not self.tasks[how[0]].done():
                self.left.add(how[0])
                self.tasks[how[0]].cancel()
            case "begin":
                self.lanes.begin(*how)
            case "end":
                lane, fails = how
                if fails:
                    self.failed |= {number for number, _ in self.lanes.begun.get(lane, [])}
                self.lanes.end(lane, fails=fails)
            case "pause":
                await settle()

    async def finish(self) -> None:
        """Let every lane do what it holds until nobody waits."""
        for _ in range(len(self.tasks) + 4):
            await settle()
            for lane in LANES:
                self.lanes.begin(lane)
                self.lanes.end(lane, fails=False)
        await settle()

    def check(self) -> None:
        ran = [item for batch in self.lanes.ran for item in batch]
        assert max(Counter(number for number, _ in ran).values(), default=1) == 1
        assert all(len(batch) <= MAX_BATCH for batch in self.lanes.ran)
        for batch in self.lanes.ran:
            assert len({self.asked[number][0] for number, _ in batch}) <= 1
        assert not any(kind == "late" for _, kind in ran)
        for number, (task, (_, kind)) in enumerate(zip(self.tasks, self.asked, strict=True)):
            assert task.done()
            self._check_answer(number, task, kind)
        for items in [ran] if self.one_lane else self.lanes.ran:
            for key in "kl":  # who had the same time and key was served in order
                order = [n for n, _ in items if self.asked[n][0] == key]
                assert order == sorted(order)
        admission = self.queue.admission
        assert (admission.depth, admission.running, self.queue.waiting) == (0, 0, 0)

    def _check_answer(self, number: int, task: asyncio.Task[int], kind: str) -> None:
        if task.cancelled():
            assert number in self.left
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
@given(devices, st.lists(events, max_size=60))
def test_each_is_settled_once_with_its_own_answer_and_nothing_is_left(scheduler, schedule):
    async def play() -> None:
        played = Play(*scheduler)
        async with played.queue:
            for event in schedule:
                await played.event(*event)
            await played.finish()
            played.check()

    asyncio.run(play())


@settings(max_examples=100, deadline=None, derandomize=True)
@given(devices, st.lists(events, max_size=40))
def test_closing_at_any_moment_settles_everyone(scheduler, schedule):
    async def play() -> None:
        played = Play(*scheduler)
        async with played.queue:
            for event in schedule:
                await played.event(*event)
            await settle()
        await settle()
        for task in played.tasks:
            assert task.done()
            if not task.cancelled() and task.exception() is not None:
                kinds = (NotReady, Internal, DeadlineExceeded, Overloaded)
                assert isinstance(task.exception(), kinds)
        assert (played.queue.admission.depth, played.queue.admission.running) == (0, 0)

    asyncio.run(play())
