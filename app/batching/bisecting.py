"""Computes a batch, and isolates the image that makes it fail."""

from collections.abc import Callable, Sequence
from typing import Literal

from app.batching.job import Job
from app.core.errors import RETRY_AFTER_FAILURE_S, Overloaded
from app.engine.interface import (
    BatchResult,
    DeviceLost,
    EngineInput,
    EngineOutput,
    OutOfMemory,
)

MAX_BATCH_BYTES = 256 << 20  # of the inputs of one run: more would need as much pinned memory
Outcome = Job | BaseException  # the finished job, or why it failed
Cause = Literal["error", "out_of_memory"]
Run = Callable[[Sequence[EngineInput]], BatchResult]
OnSplit = Callable[[Cause, int], object]
Computed = tuple[EngineOutput, dict[str, float], int]  # seconds of the run's stages, and its size


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
        pairs = zip(inputs, batch.outputs, strict=True)
        return [(output, batch.stages, len(inputs)) for _, output in pairs]
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
