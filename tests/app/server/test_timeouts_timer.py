"""The one timer of all connections."""

import asyncio
import time

import pytest

from app.server.timeouts import TimeoutTimer

pytestmark = pytest.mark.anyio


class Looked:
    """Keeps the times of the looks at it, and opens a gate after some."""

    def __init__(self, enough):
        self.times = []
        self.passed = []
        self.gate = asyncio.Event()
        self._enough = enough

    def look(self, now, passed):
        self.times.append(now)
        self.passed.append(passed)
        if len(self.times) == self._enough:
            self.gate.set()


async def test_everything_that_was_added_is_looked_at_again_and_again():
    sweep, some = TimeoutTimer(0.001), [Looked(3), Looked(3)]
    for one in some:
        sweep.add(one)
    for one in some:
        await one.gate.wait()
        sweep.discard(one)
    assert some[0].times[:3] == some[1].times[:3] == sorted(set(some[0].times))[:3]


async def test_what_was_discarded_is_not_looked_at_and_nothing_runs_for_nothing():
    sweep, first, second = TimeoutTimer(0.001), Looked(1), Looked(1)
    sweep.add(first)
    await first.gate.wait()
    sweep.discard(first)
    await asyncio.sleep(0.005)
    assert len(first.times) == 1
    assert sweep._timer is None
    sweep.add(second)  # and it begins again
    await second.gate.wait()
    assert len(first.times) == 1


async def test_what_is_looked_at_may_go_meanwhile():
    sweep = TimeoutTimer(0.001)

    class Leaving(Looked):
        def look(self, now, passed):
            super().look(now, passed)
            sweep.discard(self)

    some = [Leaving(1) for _ in range(5)]
    for one in some:
        sweep.add(one)
    await asyncio.gather(*(one.gate.wait() for one in some))
    assert sweep._timer is None


async def test_the_time_that_the_loop_was_late_by_does_not_count():
    sweep, one = TimeoutTimer(0.01), Looked(2)
    sweep.add(one)
    time.sleep(0.2)  # noqa: ASYNC251  # the loop is stuck
    await one.gate.wait()
    assert one.passed[0] == pytest.approx(0.02)
