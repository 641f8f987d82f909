"""Workers that answer batches of files: order, sizes, the window, and stopping."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from app.cli import bulk
from app.cli.bulk import (
    FORKS,
    GPU_BATCH_SIZE,
    MEASURED_FROM,
    WINDOW,
    Workers,
)
from app.cli.processes import Answer, StopRequestedError
from app.engine.interface import BatchResult, EngineInput, ModelInfo
from models.preprocessing import Preprocessing

TIMEOUT_S = 30
INFO = ModelInfo("classify", ("a",), Preprocessing(), "cpu", "float32", 1)


class Engine:
    """An engine that remembers on which threads it was called."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.warmed_up = False

    def load(self) -> ModelInfo:
        self.threads.add(threading.current_thread().name)
        return INFO

    def warm_up(self, max_batch_size: int, budget_s: float) -> dict[int, float]:
        self.threads.add(threading.current_thread().name)
        self.warmed_up = True
        return {1: 1.0, 2: 1.5, 4: 4.0}

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        return self.launch(inputs)()

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        self.threads.add(threading.current_thread().name)
        return lambda: BatchResult(list(inputs), {})

    def memory(self) -> dict[str, int]:
        return {}


@pytest.fixture
def workers() -> Iterator[Callable[..., Workers]]:
    """Make workers, and end their threads after the test."""
    made: list[Workers] = []

    def make(files: int, *, on_gpu: bool = False, stop: bool = False, cores: int = 2) -> Workers:
        stop_requested = partial(bool, stop)
        made.append(
            Workers(
                Engine(),
                on_gpu=on_gpu,
                cores=cores,
                files=paths(files),
                cpu_batch_size=8,
                stop_requested=stop_requested,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


def paths(count: int) -> list[Path]:
    return [Path(str(number)) for number in range(count)]


def names(files: Sequence[Path]) -> list[str]:
    return [file.name for file in files]


def answers(workers: Workers[str], answer: Answer[str]) -> Iterator[str]:
    workers.start(answer)
    return workers.answers()


@pytest.mark.parametrize("on_gpu", [False, True])
def test_answers_have_the_order_of_the_files(workers, on_gpu):
    pool = workers(100, on_gpu=on_gpu)
    pool.load()
    assert list(answers(pool, names)) == names(paths(100))


def test_only_a_window_of_batches_is_in_flight(workers):
    pool = workers(1000, cores=1)
    started: list[Sequence[Path]] = []

    def answer(batch: Sequence[Path]) -> list[str]:
        started.append(batch)
        return names(batch)

    found = answers(pool, answer)
    assert next(found) == "0"
    assert len(started) <= WINDOW
    found.close()


def test_each_process_has_an_equal_share_of_the_cores(workers):
    assert workers(1, cores=4).count == 1
    assert workers(100, cores=4).count == 4
    assert workers(3, cores=7)._torch_threads == 2


@pytest.mark.skipif(not FORKS, reason="no process is forked")
def test_the_thread_that_has_loaded_the_model_has_left_the_system_at_the_fork(workers, monkeypatch):
    """A fork would copy the locks of MKL, which clears its buffers at the end of a thread."""
    loaders: list[int] = []
    left: list[bool] = []

    def load(engine: Engine) -> ModelInfo:
        loaders.append(threading.get_native_id())
        torch.ones(600, 200) @ torch.ones(200, 900)
        return INFO

    def fork(*arguments: Any) -> None:
        left.append(not Path(f"/proc/self/task/{loaders[-1]}").exists())

    monkeypatch.setattr(Engine, "load", load)
    monkeypatch.setattr(bulk, "Processes", fork)
    for _ in range(20):  # without the wait, the thread is still there in most runs
        pool = workers(100)
        pool.load()
        pool.start(names)
    assert left == [True] * 20


def test_a_single_worker_is_a_thread_with_all_cores(workers):
    pool = workers(1, cores=2)
    assert list(answers(pool, lambda batch: [str(os.getpid())])) == [str(os.getpid())]
    assert pool._torch_threads == 2


@pytest.mark.parametrize("cores", [1, 2])
def test_an_error_of_the_batch_is_raised(workers, cores):
    def answer(batch: Sequence[Path]) -> list[str]:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        list(answers(workers(3, cores=cores), answer))


def test_a_stop_ends_the_answers_while_a_batch_runs(workers):
    opened = threading.Event()

    def answer(batch: Sequence[Path]) -> list[str]:
        assert opened.wait(TIMEOUT_S)
        return names(batch)

    with pytest.raises(StopRequestedError):
        list(answers(workers(3, stop=True, cores=1), answer))
    opened.set()


@pytest.mark.parametrize("cores", [1, 2])
def test_a_stop_ends_the_answers_even_if_all_are_ready(workers, cores):
    with pytest.raises(StopRequestedError):
        list(answers(workers(3, stop=True, cores=cores), names))


def test_without_memory_the_next_batches_are_smaller(workers):
    pool = workers(100)
    pool.load()
    pool.on_split("error", 8)
    assert pool.batches.size == 8
    pool.on_split("out_of_memory", 8)
    pool.on_split("out_of_memory", 8)
    assert pool.batches.size == 4
    pool.on_split("out_of_memory", 1)
    assert pool.batches.size == 1


def test_a_process_without_memory_makes_the_next_batches_smaller(workers):
    pool = workers(100)
    pool.load()

    def answer(batch: Sequence[Path]) -> list[str]:
        pool.on_split("out_of_memory", len(batch))
        return names(batch)

    assert list(answers(pool, answer)) == names(paths(100))
    assert pool.batches.size < 8


def test_on_a_gpu_one_thread_loads_and_runs(workers):
    pool = workers(MEASURED_FROM, on_gpu=True)
    assert pool.load().labels == ("a",)
    assert pool.batches.size == 2  # the lowest cost of an image in the table above
    found = answers(pool, lambda batch: pool.run(names(batch)).outputs)
    assert list(found) == names(paths(MEASURED_FROM))
    assert pool._engine.threads == {"lane-gpu"}


def test_on_a_gpu_few_images_run_without_a_measurement(workers):
    pool = workers(MEASURED_FROM - 1, on_gpu=True)
    pool.load()
    assert (pool.batches.size, pool._engine.warmed_up) == (GPU_BATCH_SIZE, False)
