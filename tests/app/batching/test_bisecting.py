"""Bisecting a failed batch: only faulty images fail, and parts of the batch fit into memory."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.batching.bisecting import run_bisecting
from app.engine.interface import (
    BatchResult,
    ClassifyInput,
    DeviceLost,
    EngineInput,
    OutOfMemory,
    Ranking,
)


class Runs:
    """Ranks each image by its first pixel; fails for some pixels, or above a batch size."""

    def __init__(self, poison: Sequence[int] = (), max_size: int = 1000) -> None:
        self.sizes: list[int] = []
        self.splits: list[tuple[str, int]] = []
        self.poison = poison
        self.max_size = max_size
        self.error: BaseException = ValueError("poison")

    def __call__(self, inputs: Sequence[EngineInput]) -> BatchResult:
        self.sizes.append(len(inputs))
        values = [int(image.pixels[0, 0, 0]) for image in inputs]
        if len(inputs) > self.max_size:
            raise OutOfMemory("no memory")
        if set(values) & set(self.poison):
            raise self.error
        return BatchResult(
            [Ranking([value], [1.0]) for value in values], {"compute": float(len(inputs))}
        )

    def split(self, cause: str, size: int) -> None:
        self.splits.append((cause, size))


def images(count: int) -> list[EngineInput]:
    return [ClassifyInput(np.full((2, 2, 3), value, np.uint8), 1) for value in range(count)]


def labels(results: list[object]) -> list[object]:
    """The best label of each result, or its error."""
    return [
        result if isinstance(result, BaseException) else result[0].indices[0] for result in results
    ]


def test_a_successful_batch_runs_once():
    runs = Runs()
    results = run_bisecting(images(16), runs, runs.split)
    assert labels(results) == list(range(16))
    assert results[0][1] == {"compute": 16.0}
    assert (runs.sizes, runs.splits) == ([16], [])


@pytest.mark.parametrize("poison", [0, 5, 15])
def test_only_the_faulty_one_of_sixteen_images_fails(poison):
    runs = Runs([poison])
    best = labels(run_bisecting(images(16), runs, runs.split))
    assert best[poison] is runs.error
    assert [label for label in best if label is not runs.error] == [
        n for n in range(16) if n != poison
    ]
    assert len(runs.sizes) == 1 + 2 * 4
    assert runs.splits == [("error", 16), ("error", 8), ("error", 4), ("error", 2)]


def test_each_of_several_faulty_images_fails():
    runs = Runs([2, 3, 9])
    best = labels(run_bisecting(images(12), runs, runs.split))
    assert [n for n, label in enumerate(best) if label is runs.error] == [2, 3, 9]


def test_an_engine_that_raises_system_exit_fails_only_its_image():
    runs = Runs([1])
    runs.error = SystemExit("dies")
    assert labels(run_bisecting(images(3), runs, runs.split)) == [0, runs.error, 2]


def test_without_enough_memory_the_parts_become_smaller_until_they_fit():
    runs = Runs(max_size=4)
    assert labels(run_bisecting(images(16), runs, runs.split)) == list(range(16))
    assert runs.sizes == [16, 8, 4, 4, 8, 4, 4]
    assert runs.splits == [("out_of_memory", size) for size in (16, 8, 8)]


def test_an_image_that_does_not_fit_on_its_own_fails():
    runs = Runs(max_size=0)
    (result,) = run_bisecting(images(1), runs, runs.split)
    assert isinstance(result, OutOfMemory)
    assert runs.splits == []


def test_nothing_runs_again_on_a_lost_device():
    runs = Runs([3])
    runs.error = DeviceLost("gone")
    with pytest.raises(DeviceLost):
        run_bisecting(images(8), runs, runs.split)
    assert runs.sizes == [8]


def test_a_launched_batch_is_collected_and_runs_again_only_if_it_fails():
    runs, inputs = Runs([1]), images(2)
    assert labels(run_bisecting(inputs, runs, runs.split, lambda: Runs()(inputs))) == [0, 1]
    assert runs.sizes == []
    assert labels(run_bisecting(inputs, runs, runs.split, lambda: runs(inputs))) == [0, runs.error]


def test_a_missing_output_is_an_error_and_shifts_no_result():
    def short(inputs: Sequence[EngineInput]) -> BatchResult:
        outputs, stages, device_s = Runs()(inputs)
        return BatchResult(outputs[1:] if len(inputs) > 1 else outputs, stages, device_s)

    runs = Runs()
    assert labels(run_bisecting(images(3), short, runs.split)) == [0, 1, 2]
