"""Runs the batches of one model on lanes.

If a model uses narrow lanes, a lane does all the work on an image. Otherwise the lane only
computes, and on a GPU it stages a batch while another batch computes.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

from app.batching.bisecting import OnSplit, Outcome, Run, parts_of, run_computed
from app.batching.job import Job
from app.batching.scheduler import DeviceScheduler
from app.core.errors import RETRY_AFTER_FAILURE_S, NotReady
from app.engine.interface import BatchResult, DeviceLost, EngineInput, InferenceEngine
from app.engine.lanes import Lane
from app.imaging.pixel_budget import WeightedSemaphore

Value = TypeVar("Value")
Arguments = ParamSpec("Arguments")
TakeJobs = Callable[[], Sequence[Job]]
CallSoon = Callable[..., object]  # calls a function in the event loop, from any thread
Settle = Callable[[Job, Outcome], object]

HOLD_RESULTS_S = 0.1  # a batch that takes longer delivers each result when it is ready


def run_whole(
    jobs: Sequence[Job],
    run: Run,
    on_split: OnSplit,
    beat: Callable[[], None] = lambda: None,
    settle: Settle = lambda job, outcome: None,
) -> list[Outcome]:
    """Decode, compute and encode jobs of one kind on the calling thread.

    A job that fails in any stage fails alone, and a job that no client waits for skips the stages
    that are left. If the network takes any input size, the images may differ in shape; images of
    equal shape share a run. See `run_bisecting` for the other arguments.

    Args:
        jobs: of one kind.
        run: runs a batch.
        on_split: called with the cause and the size of each batch that is split.
        beat: called before each decode, run and encode.
        settle: called with each outcome that is known before the end of a batch that takes long.

    Returns:
        The outcomes, in the order of the jobs.
    """
    outcomes = Outcomes(len(jobs), settle)

    def run_step(inputs: Sequence[EngineInput]) -> BatchResult:
        beat()
        return run(inputs)

    for equal in _decoded(jobs, beat, outcomes):
        wanted = [job for job in equal if _attempt(job, job.check_wanted, outcomes)]
        if not wanted:
            continue
        for job, outcome in zip(wanted, run_computed(wanted, run_step, on_split), strict=True):
            beat()
            if outcome is not job or _attempt(job, job.encode, outcomes):
                outcomes.add(job, outcome)
    return [outcomes.by_job[job] for job in jobs]


class Outcomes:
    """The outcomes of the jobs of a batch.

    A batch that takes long settles each one at once. In a short batch, a call into the event loop
    for each image costs more than it brings.

    Args:
        count: number of the jobs.
        settle: gets a job and its outcome.

    Attributes:
        by_job: the outcomes so far.
    """

    def __init__(self, count: int, settle: Settle) -> None:
        self.by_job: dict[Job, Outcome] = {}
        self._alone = count == 1
        self._settle = settle
        self._start = time.monotonic()
        self._held: list[Job] = []

    def add(self, job: Job, outcome: Outcome) -> None:
        """Add the outcome of a job."""
        self.by_job[job] = outcome
        self._held.append(job)
        if not self._alone and time.monotonic() - self._start > HOLD_RESULTS_S:
            for each in self._held:
                self._settle(each, self.by_job[each])
            self._held.clear()


def _decoded(
    jobs: Sequence[Job], beat: Callable[[], None], outcomes: Outcomes
) -> Collection[Sequence[Job]]:
    """Decode jobs, and return the decoded ones in groups of equal shape."""
    shapes: defaultdict[tuple[int, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        beat()
        if _attempt(job, job.decode, outcomes):
            shapes[job.photo.pixels.shape].append(job)
    return shapes.values()


def _attempt(job: Job, stage: Callable[[], None], outcomes: Outcomes) -> bool:
    """Run a stage of a job; if it fails, the error is the job's outcome."""
    try:
        stage()
    except Exception as error:  # noqa: BLE001  # the request gets it
        outcomes.add(job, error)
        return False
    return True


def pixels_held(jobs: Sequence[Job]) -> int:
    """Most decoded pixels that a lane has at the same time in a batch.

    Only images that are encoded with their pixels stay after their resize. All are held at once: if
    two lanes held some pixels and waited for more, both could wait forever.
    """
    kept = sum(job.pixels for job in jobs if job.operation.keep_rgb)
    return kept + max((job.pixels for job in jobs if not job.operation.keep_rgb), default=0)


class Runner:
    """Runs batches of jobs.

    Args:
        engine: computes the batches.
        budget: the pixels of all decoded images.
        scheduler: `lost` is set when the device is lost.
        on_split: called in the event loop with the cause and the size of each batch that is split.
        on_lost: called in the event loop, once, when the device is lost.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        scheduler: DeviceScheduler[Lane],
        budget: WeightedSemaphore,
        on_split: OnSplit,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._engine = engine
        self._budget = budget
        self._scheduler = scheduler
        self._on_split = on_split
        self._on_lost = on_lost

    def send(
        self, lane: Lane, take_jobs: TakeJobs, settle: Settle, *, whole: bool
    ) -> asyncio.Future[list[Outcome]]:
        """Send a batch to a lane.

        Args:
            lane: runs the batch.
            take_jobs: returns the jobs; called by the lane when it starts the batch.
            settle: called in the event loop with a job and its outcome, if it is known early.
            whole: whether the lane also decodes and encodes.

        Returns:
            The outcomes of the jobs, in order.
        """
        call_soon = asyncio.get_running_loop().call_soon_threadsafe
        if whole:
            work = partial(self._run_whole, call_soon, lane.beat, take_jobs, settle)
            return lane.run(partial(self._report_lost, call_soon, work))
        return lane.launch(partial(self._launch, call_soon, lane.used, take_jobs))

    def _run_whole(
        self, call_soon: CallSoon, beat: Callable[[], None], take_jobs: TakeJobs, settle: Settle
    ) -> list[Outcome]:
        on_split = partial(call_soon, self._on_split)
        jobs = take_jobs()
        with self._budget.hold(pixels_held(jobs), beat):
            beat()
            return run_whole(jobs, self._engine.run, on_split, beat, partial(call_soon, settle))

    def _launch(
        self, call_soon: CallSoon, on_used: Callable[[float], None], take_jobs: TakeJobs
    ) -> Callable[[], list[Outcome]]:
        jobs = take_jobs()
        if not jobs:  # every client disconnected while the batch waited for the lane
            return list
        try:
            collect = self._engine.launch([job.start_compute() for job in parts_of(jobs)[0]])
        except BaseException as error:  # noqa: BLE001  # handled like an error of `collect`
            collect = partial(_raise, error)
        on_split = partial(call_soon, self._on_split)
        run = _reporting(self._engine.run, on_used)
        work = partial(run_computed, jobs, run, on_split, _reporting(collect, on_used))
        return partial(self._report_lost, call_soon, work)

    def _report_lost(self, call_soon: CallSoon, work: Callable[[], Value]) -> Value:
        try:
            return work()
        except DeviceLost as error:
            call_soon(self._on_device_lost, error)
            raise lost() from error

    def _on_device_lost(self, error: DeviceLost) -> None:
        if self._scheduler.lost is None:
            self._scheduler.lost = str(error)
            self._on_lost(error)


def lost() -> NotReady:
    """The error for requests to a device that is lost."""
    return NotReady(
        "the device has failed; the service restarts", retry_after_s=RETRY_AFTER_FAILURE_S
    )


def _reporting(
    run: Callable[Arguments, BatchResult], on_used: Callable[[float], None]
) -> Callable[Arguments, BatchResult]:
    """The same function, which also reports the seconds of its batch on the device."""

    def reporting(*args: Arguments.args, **kwargs: Arguments.kwargs) -> BatchResult:
        batch = run(*args, **kwargs)
        on_used(batch.device_s)
        return batch

    return reporting


def _raise(error: BaseException) -> BatchResult:
    raise error
