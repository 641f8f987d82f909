"""The work on one image: its stages, and which job of a batch fails."""

import time
from collections.abc import Sequence
from functools import partial
from math import inf

import numpy as np
import pytest

from app.batching.job import Job, Operation, RequestContext
from app.batching.runner import run_whole
from app.core.errors import DeadlineExceeded, InvalidImage, Overloaded
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
    """Ranks each image by its first pixel; keeps the sizes of the runs."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, inputs: Sequence[EngineInput]) -> BatchResult:
        self.sizes.append(len(inputs))
        first = [int(image.pixels[0, 0, 0]) for image in inputs]
        if 13 in first:
            raise ValueError("13")
        return BatchResult([Ranking([value], [1.0]) for value in first], {"compute": 0.25})


def no_split(cause: str, size: int) -> None:
    raise AssertionError(f"a batch of {size} was split: {cause}")


def make_job(
    value: int, side: int = 4, error: Exception | None = None, deadline: float = inf
) -> Job:
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
        "classify",
        ClassifyInput,
        lambda photo: ClassifyInput(photo.pixels, 1),
        encode,
        "text/plain",
    )
    return Job(operation, RequestContext(deadline), decode)


def test_each_image_gets_its_own_body_and_its_stages():
    jobs, run = [make_job(value) for value in (1, 2, 3)], Runs()
    assert run_whole(jobs, run, no_split) == jobs
    assert [job.body for job in jobs] == [b"1 of 4", b"2 of 4", b"3 of 4"]
    assert run.sizes == [3]
    for job in jobs:
        assert list(job.context.stages) == ["decode", "compute", "encode"]
        assert job.context.stages["compute"] == 0.25
        assert job.context.stage == "encode"


def test_images_of_different_shapes_do_not_share_a_run():
    jobs, run = [make_job(1), make_job(2, side=6), make_job(3), make_job(4, side=6)], Runs()
    run_whole(jobs, run, no_split)
    assert [job.body for job in jobs] == [b"1 of 4", b"2 of 6", b"3 of 4", b"4 of 6"]
    assert run.sizes == [2, 2]


def test_an_image_that_cannot_be_decoded_fails_alone():
    error = InvalidImage("damaged")
    jobs = [make_job(1), make_job(2, error=error), make_job(3)]
    assert run_whole(jobs, Runs(), no_split) == [jobs[0], error, jobs[2]]
    assert jobs[1].context.stage == "decode"


def test_an_image_that_cannot_be_encoded_fails_alone():
    jobs = [make_job(7), make_job(8)]
    failed, good = run_whole(jobs, Runs(), no_split)
    assert isinstance(failed, OverflowError)
    assert good.body == b"8 of 4"


def test_only_the_faulty_image_of_a_run_fails():
    jobs, splits = [make_job(13), make_job(1), make_job(2, side=6)], []
    failed, good, other = run_whole(jobs, Runs(), lambda cause, size: splits.append((cause, size)))
    assert isinstance(failed, ValueError)
    assert jobs[0].context.stage == "compute"
    assert (good.body, other.body) == (b"1 of 4", b"2 of 6")
    assert splits == [("error", 2)]


def test_an_image_that_does_not_fit_into_memory_may_be_retried():
    def run(inputs: Sequence[EngineInput]) -> BatchResult:
        raise OutOfMemory("no memory")

    (outcome,) = run_whole([make_job(1)], run, no_split)
    assert isinstance(outcome, Overloaded)
    assert outcome.retry_after_s > 0


def test_a_missing_output_is_an_error():
    (outcome,) = run_whole([make_job(1)], lambda inputs: BatchResult([], {}), no_split)
    assert isinstance(outcome, ValueError)


@pytest.mark.parametrize("count", [1, 5])
def test_the_outcomes_are_in_the_order_of_the_jobs(count):
    jobs = [make_job(value, side=4 + value % 2) for value in range(count)]
    assert run_whole(jobs, Runs(), no_split) == jobs


def test_a_job_that_no_client_waits_for_is_not_decoded():
    jobs, run = [make_job(value) for value in (1, 2, 3)], Runs()
    jobs[1].cancel()
    first, second, third = run_whole(jobs, run, no_split)
    assert (first, third) == (jobs[0], jobs[2])
    assert isinstance(second, DeadlineExceeded)
    assert not hasattr(jobs[1], "photo")
    assert run.sizes == [2]


def test_a_job_past_its_deadline_is_not_decoded():
    job, run = make_job(1, deadline=time.monotonic()), Runs()
    (outcome,) = run_whole([job], run, no_split)
    assert isinstance(outcome, DeadlineExceeded)
    assert not hasattr(job, "photo")
    assert run.sizes == []


def test_a_job_that_is_cancelled_while_others_are_decoded_is_not_run():
    jobs, run = [make_job(1), make_job(2)], Runs()
    beats = iter([lambda: None, jobs[0].cancel])  # before the second decode
    run_whole(jobs, run, no_split, lambda: next(beats, lambda: None)())
    assert hasattr(jobs[0], "photo")
    assert run.sizes == [1]


def test_a_job_that_is_cancelled_during_the_run_is_not_encoded():
    jobs = [make_job(1), make_job(2)]

    def run(inputs: Sequence[EngineInput]) -> BatchResult:
        jobs[0].cancel()
        return Runs()(inputs)

    first, second = run_whole(jobs, run, no_split)
    assert isinstance(first, DeadlineExceeded)
    assert not hasattr(jobs[0], "body")
    assert second is jobs[1]


def test_every_decode_run_and_encode_is_reported_before_it_starts():
    steps: list[str] = []
    jobs = [make_job(1), make_job(2), make_job(3, side=5)]
    for job in jobs:
        for name in ("decode", "encode"):
            setattr(job, name, partial(recorded, steps, name, getattr(job, name)))
    run = partial(recorded, steps, "run", Runs())
    run_whole(jobs, run, no_split, lambda: steps.append("beat"))
    named = [step for step in steps if step != "beat"]
    assert named == ["decode"] * 3 + ["run", "encode", "encode", "run", "encode"]
    assert steps == [step for name in named for step in ("beat", name)]


def recorded(steps, name, work, *arguments):
    steps.append(name)
    return work(*arguments)


def test_in_a_long_batch_each_outcome_is_known_as_soon_as_it_is_there(monkeypatch):
    clock = iter(range(10**6))  # a second for each look
    monkeypatch.setattr("app.batching.runner.time.monotonic", lambda: float(next(clock)))
    jobs, events = [make_job(1), make_job(2, error=ValueError("2")), make_job(3)], []
    run_whole(
        jobs, Runs(), no_split, lambda: events.append("step"),
        lambda job, outcome: events.append(job),
    )  # fmt: skip
    assert [event for event in events if event != "step"] == [jobs[1], jobs[0], jobs[2]]
    assert events[-1] == jobs[2]
    assert events[events.index(jobs[0]) + 1 :] == ["step", jobs[2]]


def test_a_batch_that_becomes_long_settles_the_outcomes_before_that(monkeypatch):
    clock = 0.0
    monkeypatch.setattr("app.batching.runner.time.monotonic", lambda: clock)
    jobs, settled = [make_job(1, error=ValueError("1")), make_job(2), make_job(3)], []

    def run(inputs: Sequence[EngineInput]) -> BatchResult:
        nonlocal clock
        assert settled == []
        clock = 1.0
        return Runs()(inputs)

    run_whole(jobs, run, no_split, settle=lambda job, outcome: settled.append(job))
    assert settled == jobs


def test_a_job_knows_the_size_of_the_run_that_computed_it():
    jobs = [make_job(1), make_job(2), make_job(3, side=5), make_job(4, error=ValueError("4"))]
    run_whole(jobs, Runs(), no_split)
    assert [job.run_size for job in jobs] == [2, 2, 1, 0]


def test_in_a_short_batch_all_outcomes_are_known_together(monkeypatch):
    monkeypatch.setattr("app.batching.runner.time.monotonic", lambda: 1.0)
    settled = []
    jobs = [make_job(1), make_job(2)]
    run_whole(jobs, Runs(), no_split, settle=lambda job, outcome: settled.append(job))
    assert settled == []
