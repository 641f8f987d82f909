"""Answers many image files: in processes on the cores of a CPU, or in threads for a GPU."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from threading import get_native_id
from typing import Generic, TypeVar

from app.batching.bisecting import Cause, Run
from app.batching.lifespan import GPU_DEPTH
from app.cli.processes import CHECK_S, Answer, Processes, StopRequestedError
from app.cli.shared_state import Batches
from app.engine.interface import BatchResult, EngineInput, InferenceEngine, ModelInfo
from app.engine.lanes import Lane, image_threads, set_torch_threads

Value = TypeVar("Value")
Result = TypeVar("Result")
GPU_BATCH_SIZE = 32
MEASURED_FROM = 1000  # images from which on it pays to capture CUDA graphs and to measure them
WARM_UP_S = 3.0  # time limit of the measurement, without the capture
WINDOW = 4  # batches for each thread that run, wait, or are done before an earlier one
THREAD_END_S = 0.001  # between two looks whether a thread has ended
# On macOS a forked process can crash in system libraries (Python's documentation of
# multiprocessing), so one thread answers there.
FORKS = sys.platform == "linux"


class Workers(Generic[Value]):
    """Processes or threads that answer batches of files; each does all the work on its batch.

    On a CPU these are processes with an equal share of the cores, one if there are enough files; a
    single one is a thread. On a GPU these are threads that decode and encode; a thread of its own
    runs their batches, and stages the next one meanwhile.

    Args:
        engine: an engine whose model is not loaded.
        on_gpu: whether it runs on a GPU.
        cores: number of cores to use.
        files: to answer.
        cpu_batch_size: images of a batch on a CPU.
        stop_requested: tells whether the user has stopped the command.

    Attributes:
        count: number of processes or threads.
        batches: of the files.
    """

    def __init__(
        self,
        engine: InferenceEngine,
        *,
        on_gpu: bool,
        cores: int,
        files: Sequence[Path],
        cpu_batch_size: int,
        stop_requested: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._cpu_batch_size = cpu_batch_size
        self._stop_requested = stop_requested
        self._processes: Processes[Value] | None = None
        if on_gpu:
            self.count = min(image_threads("cuda", cores) + GPU_DEPTH, len(files))
            self._pool = ThreadPoolExecutor(self.count, "files")
            self._lane: Lane | None = Lane("gpu", lambda seconds: None, timed=False)
        else:
            self.count = min(cores, len(files)) if FORKS else 1
            self._torch_threads = cores // self.count  # of a process
            threads = self._torch_threads if self.count == 1 else 1  # until the fork
            self._pool = ThreadPoolExecutor(1, "files", set_torch_threads, (threads,))
            self._lane = None
        self.batches = Batches(files, self.count)

    def load(self) -> ModelInfo:
        """Load the model, and choose the batch size.

        Raises:
            The errors of the engine's `load`; StopRequestedError.
        """
        info = self._on_device(self._engine.load)
        if self._lane is None:
            self.batches.size = self._cpu_batch_size
        elif self.batches.total < MEASURED_FROM:
            self.batches.size = GPU_BATCH_SIZE
        else:
            warm_up = partial(self._engine.warm_up, GPU_BATCH_SIZE, WARM_UP_S)
            seconds = self._on_device(warm_up)
            self.batches.size = min(seconds, key=lambda size: seconds[size] / size)
        return info

    @property
    def run(self) -> Run:
        """Run a batch on the device, from any thread."""
        return self._engine.run if self._lane is None else self._run_on_lane

    def on_split(self, cause: Cause, size: int) -> None:
        """Make batches smaller after one has not fitted into the device's memory."""
        if cause == "out_of_memory":
            self.batches.size = max(1, min(self.batches.size, size // 2))

    def start(self, answer: Answer[Value]) -> None:
        """Start the processes, if there are any.

        Args:
            answer: answers a batch of files, in any process or thread.

        Raises:
            ProcessEndedError: the system starts no more processes.
            StopRequestedError: the user has stopped the command.
        """
        self._answer = answer
        if self._lane is None and self.count > 1:
            loader = self._pool.submit(get_native_id).result()
            self._pool.shutdown()
            self._wait_for_end(loader)
            self._processes = Processes(
                self.count, self._torch_threads, self.batches, answer, self._stop_requested
            )

    def answers(self) -> Iterator[Value]:
        """Yield the answers in the order of the files.

        Raises:
            StopRequestedError: the user has stopped the command; batches may still run.
            ProcessEndedError: a process has ended.
            Exception: of the function that answers.
        """
        if self._processes is not None:
            yield from self._processes.answers()
            return
        window: deque[Future[Sequence[Value]]] = deque()
        while batch := self.batches.take():
            window.append(self._pool.submit(self._answer, batch.files))
            if len(window) >= WINDOW * self.count:
                yield from self._result(window.popleft())
        while window:
            yield from self._result(window.popleft())

    def close(self) -> None:
        """Start no more batches, and end the processes.

        Batches on threads go on, so the lane of a GPU stays open for them.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            self._processes.close()

    def _wait_for_end(self, thread: int) -> None:
        """Wait until the system has no such thread any more.

        Python's `join` returns before. Then libraries still clean up, and a fork would copy the
        locks that they hold: MKL has locks that only the thread itself frees.
        """
        while Path(f"/proc/self/task/{thread}").exists():
            if self._stop_requested():
                raise StopRequestedError
            time.sleep(THREAD_END_S)

    def _result(self, future: Future[Result]) -> Result:
        while not self._stop_requested():
            wait([future], CHECK_S)
            if future.done():
                return future.result()
        raise StopRequestedError

    def _on_device(self, work: Callable[[], Result]) -> Result:
        lane = self._lane
        return self._result(
            self._pool.submit(work if lane is None else lambda: lane.call(lambda: work))
        )

    def _run_on_lane(self, inputs: Sequence[EngineInput]) -> BatchResult:
        assert self._lane is not None  # noqa: S101  # `run` has checked it
        return self._lane.call(partial(self._engine.launch, inputs))
