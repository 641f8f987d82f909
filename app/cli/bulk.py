"""Answers many image files: a window of batches on all cores of a CPU, or on a GPU."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from math import ceil
from pathlib import Path
from typing import TypeVar

from app.batching.bisecting import Cause, Run
from app.batching.lifespan import GPU_DEPTH
from app.core.types import Task
from app.engine.interface import BatchResult, EngineInput, InferenceEngine, ModelInfo
from app.engine.lanes import Lane, image_threads, set_torch_threads

Value = TypeVar("Value")
# On a core, batches of 8 are fastest for ViTs of all sizes (the bare loop in
# bench/results/serve.md), and of 4 for SegFormer, whose activations are larger.
CPU_BATCH_SIZES: Mapping[Task, int] = {"classify": 8, "segment": 4}
GPU_BATCH_SIZE = 32
MEASURED_FROM = 1000  # images from which on it pays to capture CUDA graphs and to measure them
WARM_UP_S = 3.0  # time limit of the measurement, without the capture
WINDOW = 4  # batches for each thread that run, wait, or are done before an earlier one
CHECK_S = 0.1  # between two checks whether the user has stopped the command


class StopRequestedError(Exception):
    """The user has stopped the command."""


class Workers:
    """Threads that answer batches of files; each does all the work on its batch.

    On a CPU each thread has an equal share of the cores, one if there are enough files. On a GPU
    they decode and encode; a thread of its own runs their batches, and stages the next one
    meanwhile.

    Args:
        engine: an engine whose model is not loaded.
        on_gpu: whether it runs on a GPU.
        cores: number of cores to use.
        files: number of files to answer.
        stop_requested: tells whether the user has stopped the command.

    Attributes:
        count: number of threads.
        batch_size: most images of a batch.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        *,
        on_gpu: bool,
        cores: int,
        files: int,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.batch_size = 1
        self._engine = engine
        self._files = files
        self._stop_requested = stop_requested
        if on_gpu:
            self.count = min(image_threads("cuda", cores) + GPU_DEPTH, files)
            self._pool = ThreadPoolExecutor(self.count, "files")
            self._lane: Lane | None = Lane("gpu", lambda seconds: None, timed=False)
        else:
            self.count = min(cores, files)
            threads = cores // self.count
            self._pool = ThreadPoolExecutor(self.count, "files", set_torch_threads, (threads,))
            self._lane = None

    def load(self) -> ModelInfo:
        """Load the model, and choose the batch size.

        Raises:
            The errors of the engine's `load`; StopRequestedError.
        """
        info = self._on_device(self._engine.load)
        if self._lane is None:
            self.batch_size = CPU_BATCH_SIZES[info.task]
        elif self._files < MEASURED_FROM:
            self.batch_size = GPU_BATCH_SIZE
        else:
            warm_up = partial(self._engine.warm_up, GPU_BATCH_SIZE, WARM_UP_S)
            seconds = self._on_device(warm_up)
            self.batch_size = min(seconds, key=lambda size: seconds[size] / size)
        return info

    @property
    def run(self) -> Run:
        """Run a batch on the device, from any thread."""
        return self._engine.run if self._lane is None else self._run_on_lane

    def on_split(self, cause: Cause, size: int) -> None:
        """Make batches smaller after one has not fitted into the device's memory."""
        if cause == "out_of_memory":
            self.batch_size = max(1, min(self.batch_size, size // 2))

    def answer(
        self, files: Sequence[Path], answer: Callable[[Sequence[Path]], Sequence[Value]]
    ) -> Iterator[Value]:
        """Yield the answers in the order of the files.

        Args:
            files: the files.
            answer: answers a batch of files, on a thread.

        Raises:
            StopRequestedError: the user has stopped the command; batches may still run.
            Exception: of `answer`.
        """
        window: deque[Future[Sequence[Value]]] = deque()
        for batch in self._batches(files):
            window.append(self._pool.submit(answer, batch))
            if len(window) >= WINDOW * self.count:
                yield from self._result(window.popleft())
        while window:
            yield from self._result(window.popleft())

    def close(self) -> None:
        """Start no more batches; those that run go on, so the lane of a GPU stays open for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _batches(self, files: Sequence[Path]) -> Iterator[Sequence[Path]]:
        """Divide files into batches; the last ones are small, so that all threads end together."""
        start = 0
        while start < len(files):
            size = min(self.batch_size, ceil((len(files) - start) / (2 * self.count)))
            yield files[start : start + size]
            start += size

    def _result(self, future: Future[Value]) -> Value:
        while not self._stop_requested():
            wait([future], CHECK_S)
            if future.done():
                return future.result()
        raise StopRequestedError

    def _on_device(self, work: Callable[[], Value]) -> Value:
        lane = self._lane
        return self._result(
            self._pool.submit(work if lane is None else lambda: lane.call(lambda: work))
        )

    def _run_on_lane(self, inputs: Sequence[EngineInput]) -> BatchResult:
        assert self._lane is not None  # noqa: S101  # `run` has checked it
        return self._lane.call(partial(self._engine.launch, inputs))
