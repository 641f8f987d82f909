"""Runs the batches of one model on lanes, and isolates the image that makes a batch fail.

If a model uses narrow lanes, a lane does all the work on an image. Otherwise the lane only
computes, and on a GPU it stages a batch while another batch computes.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Literal, ParamSpec, TypeVar

from app.batching.batch_size import SHORT_BATCH_S
from app.batching.job import Job
from app.batching.scheduler import DeviceScheduler
from app.core.errors import RETRY_AFTER_FAILURE_S, NotReady, Overloaded
from app.engine.interface import (
    BatchResult,
    DeviceLost,
    EngineInput,
    EngineOutput,
    InferenceEngine,
    OutOfMemory,
)
from app.engine.lanes import Lane
from app.imaging.pixel_budget import WeightedSemaphore

MAX_BATCH_BYTES = 256 << 20  # of the inputs of one run: more would need as much pinned memory
Value = TypeVar("Value")
Arguments = ParamSpec("Arguments")
TakeJobs = Callable[[], Sequence[Job]]
CallSoon = Callable[..., object]  # calls a function in the event loop, from any thread
Outcome = Job | BaseException  # the finished job, or why it failed
Cause = Literal["error", "out_of_memory"]
Run = Callable[[Sequence[EngineInput]], BatchResult]
OnSplit = Callable[[Cause, int], object]
Settle = Callable[[Job, Outcome], object]
Computed = tuple[EngineOutput, dict[str, float]]  # and the seconds of each stage of its batch


def run_bisecting(
    inputs: Sequence[EngineInput],
    run: Run,
    on_split: OnSplit,
    collect: Callable[[], BatchResult] | None = None,
) -> list[Computed | BaseException]:
    """Run a batch; if it fails, run its halves separately, down to single inputs.

    One faulty input among n costs 2 log2(n) more runs. After an out-of-memory error the halves fit
    or are split again.

    Args:
        inputs: of one kind and shape.
        run: runs a batch.
        on_split: called with the cause and the size of each batch that is split.
        collect: waits for the batch of all inputs, if it was already launched.

    Returns:
        For each input, in order, its output or the error that it raises on its own.

    Raises:
        DeviceLost: every further run would fail.
    """
    try:
        batch = collect() if collect is not None else run(inputs)
        return [(output, batch.stages) for _, output in zip(inputs, batch.outputs, strict=True)]
    except DeviceLost:
        raise
    except BaseException as error:  # noqa: BLE001  # an engine must not end the lane's thread
        if len(inputs) == 1:
            return [error]
        on_split("out_of_memory" if isinstance(error, OutOfMemory) else "error", len(inputs))
    half = len(inputs) // 2
    return [
        *run_bisecting(inputs[:half], run, on_split),
        *run_bisecting(inputs[half:], run, on_split),
    ]


def run_computed(
    jobs: Sequence[Job],
    run: Run,
    on_split: OnSplit,
    collect: Callable[[], BatchResult] | None = None,
) -> list[Outcome]:
    """Compute decoded jobs of one kind and shape; only faulty jobs fail.

    Each of the `parts_of` the batch is a run of its own; `collect` waits for the first part. See
    `run_bisecting` for the other arguments and the errors.
    """
    results: list[Computed | BaseException] = []
    for part in parts_of(jobs):
        results += run_bisecting([job.start_compute() for job in part], run, on_split, collect)
        collect = None
    outcomes: list[Outcome] = []
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, OutOfMemory):
            outcomes.append(no_memory())
        elif isinstance(result, BaseException):
            outcomes.append(result)
        else:
            job.set_output(*result)
            outcomes.append(job)
    return outcomes


def parts_of(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    """Divide decoded jobs of one shape into parts of at most 256 MiB of inputs, or one image.

    Networks that take any input size get images of up to 150 MB, and both the memory on the host,
    which is pinned for a GPU, and the memory on the device grow to the largest part.
    """
    if not jobs:
        return []
    count = max(1, MAX_BATCH_BYTES // max(1, jobs[0].photo.pixels.nbytes))
    return [jobs[start : start + count] for start in range(0, len(jobs), count)]


def no_memory() -> Overloaded:
    """The error for an image that does not fit into the device's memory on its own."""
    return Overloaded(
        "the device has no memory for this image now", retry_after_s=RETRY_AFTER_FAILURE_S
    )


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
        settle: called with each outcome as soon as it is known, in a batch that takes long.

    Returns:
        The outcomes, in the order of the jobs.
    """
    start = time.monotonic()
    outcomes: dict[Job, Outcome] = {}

    def finish(job: Job, outcome: Outcome) -> None:
        outcomes[job] = outcome
        # not in a short batch: a call into the event loop for each image costs more than it brings
        if len(jobs) > 1 and time.monotonic() - start > SHORT_BATCH_S:
            settle(job, outcome)

    def run_step(inputs: Sequence[EngineInput]) -> BatchResult:
        beat()
        return run(inputs)

    for equal in _decoded(jobs, beat, finish):
        wanted = [job for job in equal if _attempt(job, job.check_wanted, finish)]
        if not wanted:
            continue
        for job, outcome in zip(wanted, run_computed(wanted, run_step, on_split), strict=True):
            beat()
            if outcome is not job or _attempt(job, job.encode, finish):
                finish(job, outcome)
    return [outcomes[job] for job in jobs]


def _decoded(
    jobs: Sequence[Job], beat: Callable[[], None], finish: Callable[[Job, Outcome], None]
) -> Collection[Sequence[Job]]:
    """Decode jobs, and return the decoded ones in groups of equal shape."""
    shapes: defaultdict[tuple[int, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        beat()
        if _attempt(job, job.decode, finish):
            shapes[job.photo.pixels.shape].append(job)
    return shapes.values()


def _attempt(job: Job, stage: Callable[[], None], finish: Callable[[Job, Outcome], None]) -> bool:
    """Run a stage of a job; if it fails, the error is the job's outcome."""
    try:
        stage()
    except Exception as error:  # noqa: BLE001  # the request gets it
        finish(job, error)
        return False
    return True


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
        # of all images at once: two lanes that hold some and wait for more could block each other
        with self._budget.hold(sum(job.pixels for job in jobs)):
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
