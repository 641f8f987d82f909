"""The work on one image: its stages, and who fails when something does."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.batching.job import Job, Operation, RequestContext
from app.batching.runner import run_whole
from app.core.errors import InvalidImage, Overloaded
from app.engine.interface import (
    BatchResult,
    ClassifyInput,
    EngineInput,
    EngineOutput,
    OutOfMemory,
    Ranking,
)
from app.imaging.decode import Photo


class Runs:
    """Answers each image with its first pixel; keeps the sizes of the runs."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, inputs: Sequence[EngineInput]) -> BatchResult:
        self.sizes.append(len(inputs))
        first = [int(one.pixels[0, 0, 0]) for one in inputs]
        if 13 in first:
            raise ValueError("13")
        return BatchResult([Ranking([value], [1.0]) for value in first], {"compute": 0.25})


def nobody(cause: str, size: int) -> None:
    raise AssertionError(f"{size} were cut: {cause}")


def job(value: int, side: int = 4, error: Exception | None = None) -> Job:
    def decode() -> Photo:
        if error is not None:
            raise error
        return Photo(np.full((side, side, 3), value, np.uint8), side, side)

    def encode(photo: Photo, output: EngineOutput) -> bytes:
        assert isinstance(output, Ranking)
        if value == 7:
            raise OverflowError("7")
        return f"{output.indices[0]} of {photo.width}".encode()

    operation = Operation(
        ClassifyInput, lambda photo: ClassifyInput(photo.pixels, 1), encode, "text/plain"
    )
    return Job(operation, RequestContext(deadline=1.0), decode)


def test_each_image_gets_its_own_answer_and_its_stages():
    jobs, run = [job(value) for value in (1, 2, 3)], Runs()
    assert run_whole(jobs, run, nobody) == jobs
    assert [one.body for one in jobs] == [b"1 of 4", b"2 of 4", b"3 of 4"]
    assert run.sizes == [3]
    for one in jobs:
        assert list(one.context.stages) == ["decode", "compute", "encode"]
        assert one.context.stages["compute"] == 0.25
        assert one.context.stage == "encode"


def test_images_of_different_shapes_do_not_share_a_run():
    jobs, run = [job(1), job(2, side=6), job(3), job(4, side=6)], Runs()
    run_whole(jobs, run, nobody)
    assert [one.body for one in jobs] == [b"1 of 4", b"2 of 6", b"3 of 4", b"4 of 6"]
    assert run.sizes == [2, 2]


def test_what_cannot_be_decoded_fails_alone():
    error = InvalidImage("damaged")
    jobs = [job(1), job(2, error=error), job(3)]
    assert run_whole(jobs, Runs(), nobody) == [jobs[0], error, jobs[2]]
    assert jobs[1].context.stage == "decode"


def test_what_cannot_be_encoded_fails_alone():
    jobs = [job(7), job(8)]
    failed, good = run_whole(jobs, Runs(), nobody)
    assert isinstance(failed, OverflowError)
    assert good.body == b"8 of 4"


def test_of_a_run_that_fails_only_the_image_at_fault_has_no_answer():
    jobs, cut = [job(13), job(1), job(2, side=6)], []
    failed, good, other = run_whole(jobs, Runs(), lambda cause, size: cut.append((cause, size)))
    assert isinstance(failed, ValueError)
    assert jobs[0].context.stage == "compute"
    assert (good.body, other.body) == (b"1 of 4", b"2 of 6")
    assert cut == [("error", 2)]


def test_an_image_that_does_not_fit_into_memory_may_be_sent_again():
    def run(inputs: Sequence[EngineInput]) -> BatchResult:
        raise OutOfMemory("no memory")

    (outcome,) = run_whole([job(1)], run, nobody)
    assert isinstance(outcome, Overloaded)
    assert outcome.retry_after_s > 0


def test_a_missing_output_is_nobodys_answer():
    (outcome,) = run_whole([job(1)], lambda inputs: BatchResult([], {}), nobody)
    assert isinstance(outcome, ValueError)


@pytest.mark.parametrize("count", [1, 5])
def test_the_outcomes_are_in_the_order_of_the_jobs(count):
    jobs = [job(value, side=4 + value % 2) for value in range(count)]
    assert run_whole(jobs, Runs(), nobody) == jobs
