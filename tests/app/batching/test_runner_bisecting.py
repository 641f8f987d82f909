"""A batch that fails: who is at fault fails alone, and memory is asked for in smaller parts."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.batching.runner import run_bisecting
from app.engine.interface import (
    BatchResult,
    ClassifyInput,
    DeviceLost,
    EngineInput,
    OutOfMemory,
    Ranking,
)


class Runs:
    """Answers each image with its first pixel; fails for some pixels, or above a size."""

    def __init__(self, poison: Sequence[int] = (), most: int = 1000) -> None:
        self.sizes: list[int] = []
        self.splits: list[tuple[str, int]] = []
        self.poison = poison
        self.most = most
        self.error: BaseException = ValueError("poison")

    def __call__(self, inputs: Sequence[EngineInput]) -> BatchResult:
        self.sizes.append(len(inputs))
        values = [int(one.pixels[0, 0, 0]) for one in inputs]
        if len(inputs) > self.most:
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


def told(found: list[object]) -> list[object]:
    return [one if isinstance(one, BaseException) else one[0].indices[0] for one in found]


def test_a_batch_that_goes_well_is_run_once():
    runs = Runs()
    found = run_bisecting(images(16), runs, runs.split)
    assert told(found) == list(range(16))
    assert found[0][1] == {"compute": 16.0}
    assert (runs.sizes, runs.splits) == ([16], [])


@pytest.mark.parametrize("poison", [0, 5, 15])
def test_of_sixteen_the_one_at_fault_fails_alone(poison):
    runs = Runs([poison])
    answers = told(run_bisecting(images(16), runs, runs.split))
    assert answers[poison] is runs.error
    assert [a for a in answers if a is not runs.error] == [n for n in range(16) if n != poison]
    assert len(runs.sizes) == 1 + 2 * 4
    assert runs.splits == [("error", 16), ("error", 8), ("error", 4), ("error", 2)]


def test_several_at_fault_fail_each():
    runs = Runs([2, 3, 9])
    answers = told(run_bisecting(images(12), runs, runs.split))
    assert [n for n, answer in enumerate(answers) if answer is runs.error] == [2, 3, 9]


def test_an_engine_that_tries_to_end_its_thread_is_at_fault_too():
    runs = Runs([1])
    runs.error = SystemExit("dies")
    assert told(run_bisecting(images(3), runs, runs.split)) == [0, runs.error, 2]


def test_for_want_of_memory_the_parts_are_ever_smaller():
    runs = Runs(most=4)
    assert told(run_bisecting(images(16), runs, runs.split)) == list(range(16))
    assert runs.sizes == [16, 8, 4, 4, 8, 4, 4]
    assert runs.splits == [("out_of_memory", size) for size in (16, 8, 8)]


def test_one_that_does_not_fit_by_itself_fails_alone():
    runs = Runs(most=0)
    (found,) = run_bisecting(images(1), runs, runs.split)
    assert isinstance(found, OutOfMemory)
    assert runs.splits == []


def test_on_a_lost_device_nothing_is_run_again():
    runs = Runs([3])
    runs.error = DeviceLost("gone")
    with pytest.raises(DeviceLost):
        run_bisecting(images(8), runs, runs.split)
    assert runs.sizes == [8]


def test_what_had_begun_is_waited_for_and_only_run_again_if_it_failed():
    runs, inputs = Runs([1]), images(2)
    assert told(run_bisecting(inputs, runs, runs.split, lambda: Runs()(inputs))) == [0, 1]
    assert runs.sizes == []
    assert told(run_bisecting(inputs, runs, runs.split, lambda: runs(inputs))) == [0, runs.error]


def test_an_answer_too_few_is_a_failure_and_shifts_nobody():
    def short(inputs: Sequence[EngineInput]) -> BatchResult:
        outputs, stages = Runs()(inputs)
        return BatchResult(outputs[1:] if len(inputs) > 1 else outputs, stages)

    runs = Runs()
    assert told(run_bisecting(images(3), short, runs.split)) == [0, 1, 2]
