"""Batches on lanes: isolation of a faulty image, and the loss of the device."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import numpy as np
import pytest

from app.batching.job import Job, Operation, RequestContext
from app.batching.runner import Runner, pixels_held
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
from app.imaging.pixel_budget import WeightedSemaphore

pytestmark = pytest.mark.anyio


class Engine:
    """Ranks each image by its first pixel; fails for some pixels, at the launch or at the end."""

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self.sizes: list[int] = []

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        self.sizes.append(len(inputs))
        values = [int(image.pixels[0, 0, 0]) for image in inputs]
        if 13 in values:
            raise ValueError("13")
        if 66 in values:
            raise DeviceLost("no more kernels")
        return BatchResult([Ranking([value], [1.0]) for value in values], {"compute": 0.25}, 0.5)

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        if self.late:
            return partial(self.run, inputs)
        batch = self.run(inputs)
        return lambda: batch


def make_job(value: int) -> Job:
    def encode(photo: Photo, output: EngineOutput) -> bytes:
        assert isinstance(output, Ranking)
        return str(output.indices[0]).encode()

    operation = Operation(
        "classify", ClassifyInput, lambda photo: ClassifyInput(photo.pixels, 1), encode, "text"
    )
    job = Job(
        operation, RequestContext(inf), lambda: Photo(np.full((2, 2, 3), value, np.uint8), 2, 2)
    )
    job.decode()
    return job


class Setup:
    """A runner with its own lane."""

    def __init__(self, *, late: bool) -> None:
        self.engine = Engine(late=late)
        self.splits: list[tuple[str, int]] = []
        self.settled: list[object] = []
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.device_s: list[float] = []
        self.budget = WeightedSemaphore(1000)
        self.lane = Lane("test", self.device_s.append, timed=False)
        self.scheduler = DeviceScheduler(self.lane)
        self.runner = Runner(
            self.engine,
            self.scheduler,
            self.budget,
            lambda *split: self.splits.append(split),
            self.lost.set_result,
        )

    def send(self, jobs: list[Job], *, whole: bool) -> asyncio.Future[list[object]]:
        return self.runner.send(self.lane, lambda: jobs, self.settled.append, whole=whole)


@pytest.fixture(params=[True, False], ids=["at the end", "at the launch"])
async def setup(request):
    setup = Setup(late=request.param)
    yield setup
    setup.lane.close()


@pytest.mark.parametrize("whole", [True, False])
async def test_only_the_faulty_one_of_sixteen_images_fails(setup, whole):
    jobs = [make_job(value) for value in range(16)]
    outcomes = await setup.send(jobs, whole=whole)
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, ValueError)] == [13]
    assert [outcome for outcome in outcomes if isinstance(outcome, Job)] == jobs[:13] + jobs[14:]
    assert jobs[12].output == Ranking([12], [1.0])
    assert [size for _, size in setup.splits] == [16, 8, 4, 2]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("max_bytes", "sizes"), [(35, [2, 2, 1]), (1, [1] * 5), (60, [5])])
async def test_the_bytes_of_a_run_are_limited_but_one_image_always_runs(
    setup, monkeypatch, whole, max_bytes, sizes
):
    monkeypatch.setattr(
        "app.batching.bisecting.MAX_BATCH_BYTES", max_bytes
    )  # an image has 12 bytes
    jobs = [make_job(value) for value in range(5)]
    assert await setup.send(jobs, whole=whole) == jobs
    assert [job.output for job in jobs] == [Ranking([value], [1.0]) for value in range(5)]
    assert setup.engine.sizes == sizes


@pytest.mark.parametrize("whole", [True, False])
async def test_a_fault_in_a_later_part_of_a_batch_fails_one_image(setup, monkeypatch, whole):
    monkeypatch.setattr("app.batching.bisecting.MAX_BATCH_BYTES", 24)
    jobs = [make_job(value) for value in (1, 2, 13, 3)]
    outcomes = await setup.send(jobs, whole=whole)
    assert [outcome is job for outcome, job in zip(outcomes, jobs, strict=True)] == [
        True, True, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("whole", [True, False])
async def test_a_lost_device_is_reported_once_and_fails_every_job(setup, whole):
    jobs = [make_job(1), make_job(66), make_job(2)]
    for _ in range(2):
        with pytest.raises(NotReady, match="restarts") as raised:
            await setup.send(jobs, whole=whole)
        assert isinstance(raised.value.__cause__, DeviceLost)
    assert str(await setup.lost) == "no more kernels"
    assert setup.scheduler.lost == "no more kernels"
    assert setup.engine.sizes == [3, 3]


async def test_the_busy_time_of_a_gpu_is_the_sum_of_its_batches(setup):
    await setup.send([make_job(1), make_job(2)], whole=False)
    assert setup.device_s == [0.5]
    await setup.send([make_job(1), make_job(13), make_job(2)], whole=False)
    assert setup.device_s == [0.5] * 3  # two of the four runs of the second batch did not fail


async def test_a_batch_without_jobs_is_not_run(setup):
    assert await setup.send([], whole=False) == []
    assert await setup.send([], whole=True) == []
    assert setup.engine.sizes == []


@pytest.mark.parametrize(("keep", "pixels"), [((), 5), ((0,), 8), ((0, 1, 2), 12)])
def test_a_lane_holds_the_pixels_that_it_has_at_the_same_time(keep, pixels):
    jobs = [make_job(value) for value in range(3)]
    for number, (job, size) in enumerate(zip(jobs, (3, 4, 5), strict=True)):
        job.pixels = size
        job.operation = job.operation._replace(keep_rgb=number in keep)
    assert pixels_held(jobs) == pixels
    assert pixels_held([]) == 0


async def test_a_lane_reports_progress_while_it_waits_for_pixels(setup, monkeypatch):
    monkeypatch.setattr("app.imaging.pixel_budget.WAIT_S", 0.001)
    loop, reports = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(setup.lane, "beat", lambda: loop.call_soon_threadsafe(reports.set))
    job = make_job(1)
    job.pixels = 1
    with setup.budget.hold(1000):
        outcomes = setup.send([job], whole=True)
        await reports.wait()
        assert not outcomes.done()
    assert await outcomes == [job]
