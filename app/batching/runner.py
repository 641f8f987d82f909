"""Owns how the batches of one model are run on lanes, and what is done when one fails.

Knows nothing of queues or HTTP. Where cores are the device, a lane does all the work on an image;
elsewhere it only computes, and begins with a batch while another is computed.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeVar

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

Value = TypeVar("Value")
Take = Callable[[], Sequence[Job]]
Tell = Callable[..., object]  # lets the loop call a function
Outcome = Job | BaseException  # a job that went well, or why it did not
Cause = Literal["error", "out_of_memory"]
Run = Callable[[Sequence[EngineInput]], BatchResult]
OnSplit = Callable[[Cause, int], object]
Computed = tuple[EngineOutput, dict[str, float]]  # with the seconds of each stage of its batch


def run_bisecting(
    inputs: Sequence[EngineInput],
    run: Run,
    on_split: OnSplit,
    begun: Callable[[], BatchResult] | None = None,
) -> list[Computed | BaseException]:
    """What became of each input, in order: its output, or what it raises all by itself.

    A batch that fails is cut in halves, which are run alone: of n inputs one that is at fault costs
    2 log2(n) runs. For want of memory, the halves fit or are cut again.

    Args:
        inputs: of one kind and shape.
        run: runs a batch.
        on_split: called with the cause and the size of each batch that is cut.
        begun: waits for the batch of all inputs, where that was begun already.

    Raises:
        DeviceLost: another run would be of no use to anyone.
    """
    try:
        outputs, stages = begun() if begun is not None else run(inputs)
        return [(output, stages) for _, output in zip(inputs, outputs, strict=True)]
    except DeviceLost:
        raise
    except BaseException as error:  # noqa: BLE001  # on a lane's thread, whatever an engine raises
        if len(inputs) == 1:
            return [error]
        on_split("out_of_memory" if isinstance(error, OutOfMemory) else "error", len(inputs))
    half = len(inputs) // 2
    return [
        *run_bisecting(inputs[:half], run, on_split),
        *run_bisecting(inputs[half:], run, on_split),
    ]


def run_computed(
    jobs: Sequence[Job], run: Run, on_split: OnSplit, begun: Callable[[], BatchResult] | None = None
) -> list[Outcome]:
    """Let decoded jobs of one kind and shape be computed; who is at fault fails alone.

    See `run_bisecting` for the arguments, and for what is raised.
    """
    outcomes: list[Outcome] = []
    found = run_bisecting([job.compute_input() for job in jobs], run, on_split, begun)
    for job, one in zip(jobs, found, strict=True):
        if isinstance(one, OutOfMemory):
            outcomes.append(no_memory())
        elif isinstance(one, BaseException):
            outcomes.append(one)
        else:
            job.computed(*one)
            outcomes.append(job)
    return outcomes


def no_memory() -> Overloaded:
    """What the caller is told of an image that does not fit into the device's memory by itself."""
    return Overloaded(
        "the device has no memory for this image now", retry_after_s=RETRY_AFTER_FAILURE_S
    )


def run_whole(jobs: Sequence[Job], run: Run, on_split: OnSplit) -> list[Outcome]:
    """Do all the work of jobs of one kind, on the thread that calls; in their order.

    One that cannot be decoded, computed or encoded fails alone, the rest go on. Images of a network
    that takes any size may differ in shape; equal ones share a run.
    """
    outcomes: dict[Job, Outcome] = {}
    shapes: defaultdict[tuple[int, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        if _tried(job, job.decode, outcomes):
            shapes[job.photo.pixels.shape].append(job)
    for equal in shapes.values():
        for job, outcome in zip(equal, run_computed(equal, run, on_split), strict=True):
            outcomes[job] = outcome
            if outcome is job:
                _tried(job, job.encode, outcomes)
    return [outcomes[job] for job in jobs]


def _tried(job: Job, work: Callable[[], None], outcomes: dict[Job, Outcome]) -> bool:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # it belongs to the caller
        outcomes[job] = error
        return False
    outcomes[job] = job
    return True


class Runner:
    """Runs batches of jobs.

    Args:
        engine: computes them.
        scheduler: whose lanes they run on.
        on_split: called on the loop with the cause and the size of each batch that is cut.
        on_lost: called on the loop, once, when the device computes nothing any more.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        scheduler: DeviceScheduler[Lane],
        on_split: OnSplit,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._on_split = on_split
        self._on_lost = on_lost

    def send(self, lane: Lane, take: Take, *, whole: bool) -> asyncio.Future[list[Outcome]]:
        """Send a batch to a lane, which takes its jobs when it begins; what became of each.

        Args:
            lane: runs it.
            take: gives the jobs.
            whole: whether the lane also decodes and encodes.
        """
        tell = asyncio.get_running_loop().call_soon_threadsafe
        if whole:
            return lane.run(partial(self._unless_lost, tell, partial(self._fulfil, tell, take)))
        return lane.launch(partial(self._begin, tell, take))

    def _fulfil(self, tell: Tell, take: Take) -> list[Outcome]:
        on_split = partial(tell, self._on_split)
        return run_whole(take(), self._engine.run, on_split)

    def _begin(self, tell: Tell, take: Take) -> Callable[[], list[Outcome]]:
        jobs = take()
        if not jobs:  # all of them left while the lane was at work
            return list
        try:
            begun = self._engine.launch([job.compute_input() for job in jobs])
        except BaseException as error:  # noqa: BLE001  # told as if it came to light at the end
            begun = partial(_failed, error)
        on_split = partial(tell, self._on_split)
        return partial(
            self._unless_lost, tell, partial(run_computed, jobs, self._engine.run, on_split, begun)
        )

    def _unless_lost(self, tell: Tell, work: Callable[[], Value]) -> Value:
        try:
            return work()
        except DeviceLost as error:
            tell(self._lose, error)
            raise lost() from error

    def _lose(self, error: DeviceLost) -> None:
        if self._scheduler.lost is None:
            self._scheduler.lost = str(error)
            self._on_lost(error)


def lost() -> NotReady:
    """What callers are told when the device has failed."""
    return NotReady(
        "the device has failed; the service starts anew", retry_after_s=RETRY_AFTER_FAILURE_S
    )


def _failed(error: BaseException) -> BatchResult:
    raise error
