"""How batches are run on lanes, and what is done when the device is lost."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from app.batching.job import Job, Operation, RequestContext
from app.batching.runner import Runner
from app.batching.scheduler import DeviceScheduler
from app.core.errors import NotReady
from app.engine.interface import (
    BatchResult,
    ClassifyInput,
    DeviceLost,
    EngineInput,
    EngineOutput,
    Ranking,
)
from app.engine.lanes import Lane
from app.imaging.decode import Photo

pytestmark = pytest.mark.anyio


class Engine:
    """Answers each image with its first pixel; fails by the pixel, at the launch or at the end."""

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self.sizes: list[int] = []

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        self.sizes.append(len(inputs))
        values = [int(one.pixels[0, 0, 0]) for one in inputs]
        if 13 in values:
            raise ValueError("13")
        if 66 in values:
            raise DeviceLost("no more kernels")
        return BatchResult([Ranking([value], [1.0]) for value in values], {"compute": 0.25})

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        if self.late:
            return partial(self.run, inputs)
        batch = self.run(inputs)
        return lambda: batch


def job(value: int) -> Job:
    def encode(photo: Photo, output: EngineOutput) -> bytes:
        assert isinstance(output, Ranking)
        return str(output.indices[0]).encode()

    operation = Operation(
        ClassifyInput, lambda photo: ClassifyInput(photo.pixels, 1), encode, "text"
    )
    made = Job(
        operation, RequestContext(1.0), lambda: Photo(np.full((2, 2, 3), value, np.uint8), 2, 2)
    )
    made.decode()
    return made


class Running:
    """A runner on a lane of its own."""

    def __init__(self, *, late: bool) -> None:
        self.engine = Engine(late=late)
        self.splits: list[tuple[str, int]] = []
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.lane = Lane("test", lambda seconds: None)
        self.device = DeviceScheduler(self.lane)
        self.runner = Runner(
            self.engine, self.device, lambda *split: self.splits.append(split), self.lost.set_result
        )

    def send(self, jobs: list[Job], *, whole: bool) -> asyncio.Future[list[object]]:
        return self.runner.send(self.lane, lambda: jobs, whole=whole)


@pytest.fixture(params=[True, False], ids=["at the end", "at the launch"])
async def running(request):
    made = Running(late=request.param)
    yield made
    made.lane.close()


@pytest.mark.parametrize("whole", [True, False])
async def test_of_sixteen_images_the_one_at_fault_fails_alone(running, whole):
    jobs = [job(value) for value in range(16)]
    outcomes = await running.send(jobs, whole=whole)
    assert [n for n, one in enumerate(outcomes) if isinstance(one, ValueError)] == [13]
    assert [one for one in outcomes if isinstance(one, Job)] == jobs[:13] + jobs[14:]
    assert jobs[12].output == Ranking([12], [1.0])
    assert [size for _, size in running.splits] == [16, 8, 4, 2]


@pytest.mark.parametrize("whole", [True, False])
async def test_a_lost_device_is_told_once_and_fails_all(running, whole):
    jobs = [job(1), job(66), job(2)]
    for _ in range(2):
        with pytest.raises(NotReady, match="starts anew") as told:
            await running.send(jobs, whole=whole)
        assert isinstance(told.value.__cause__, DeviceLost)
    assert str(await running.lost) == "no more kernels"
    assert running.scheduler.lost == "no more kernels"
    assert running.engine.sizes == [3, 3]


async def test_a_batch_that_all_have_left_is_not_begun(running):
    assert await running.send([], whole=False) == []
    assert await running.send([], whole=True) == []
    assert running.engine.sizes == []
