"""Answering a batch of files: shapes, failures, and the pixels that are held."""

import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from app.cli import answering
from app.cli.answering import Answerer, Failure, Reading, Work, WriteError, write_result
from app.core.errors import InvalidImage
from app.engine.interface import (
    BatchResult,
    ClassifyInput,
    DeviceLost,
    EngineInput,
    ModelInfo,
    OutOfMemory,
    Ranking,
)
from app.imaging.decode import Photo
from app.imaging.pixel_budget import WeightedSemaphore
from models.preprocessing import Preprocessing

INFO = ModelInfo("segment", ("a", "b"), Preprocessing(), "cpu", "float32", 1)
BUDGET = 100  # pixels


class Bench:
    """Files whose bytes are their side in pixels, and an engine that answers with the side.

    Attributes:
        runs: the sides in each run.
        held: the pixels that were held at each decode.
        most: most images that fit into the engine's memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.budget = WeightedSemaphore(BUDGET)
        self.runs: list[list[int]] = []
        self.held: list[int] = []
        self.splits: list[tuple[str, int]] = []
        self.most = 100

    def files(self, *sides: int) -> list[Path]:
        files = [self.folder / f"{number}-{side}" for number, side in enumerate(sides)]
        for file, side in zip(files, sides, strict=True):
            file.write_bytes(bytes([side]))
        return files

    def decode(self, data: bytes, preprocessing: Preprocessing, **options: Any) -> Photo:
        self.held.append(self.budget.held)
        if data[0] == 0:
            raise InvalidImage("it is empty")
        return Photo(np.zeros((data[0], data[0], 3), np.uint8), data[0], data[0])

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        if len(inputs) > self.most:
            raise OutOfMemory("too many")
        self.runs.append([len(each.pixels) for each in inputs])
        return BatchResult([Ranking([len(each.pixels)], [1.0]) for each in inputs], {})

    def answer(self, files: Sequence[Path], finish: Any = None, *, large: bool = False) -> list:
        work = Work(
            lambda photo, info: ClassifyInput(photo.pixels, 1),
            finish or (lambda file, photo, output, info: output.indices[0]),
            8,
            large=large,
        )
        reading = Reading(self.decode, lambda data: data[0] ** 2, self.budget, BUDGET // 2)
        split = lambda cause, size: self.splits.append((cause, size))  # noqa: E731
        return Answerer(work, reading, INFO, self.run, split)(files)


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def test_answers_have_the_order_of_the_files_and_equal_shapes_run_together(bench):
    assert bench.answer(bench.files(2, 3, 2, 2, 3)) == [2, 3, 2, 2, 3]
    assert bench.runs == [[2, 2, 2], [3, 3]]


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_fails_in_any_stage_fails_alone(bench, large):
    files = [bench.folder / "missing", *bench.files(0, 2, 3)]

    def finish(file, photo, output, info):
        if photo.width == 3:
            raise RuntimeError("no luck")
        return output.indices[0]

    assert bench.answer(files, finish, large=large) == [
        Failure("No such file or directory", "unreadable_file"),
        Failure("it is empty", "invalid_image"),
        2,
        Failure("RuntimeError: no luck", "internal"),
    ]


def test_without_memory_the_batch_runs_in_halves(bench):
    bench.most = 2
    assert bench.answer(bench.files(2, 2, 2, 2)) == [2, 2, 2, 2]
    assert bench.runs == [[2, 2], [2, 2]]
    assert bench.splits == [("out_of_memory", 4)]


def test_an_image_that_does_not_fit_alone_is_a_failure(bench):
    bench.most = 0
    assert bench.answer(bench.files(2)) == [Failure("too many", "out_of_memory")]


def test_images_are_decoded_in_parts_of_the_share_of_a_worker_and_run_together(bench):
    bench.answer(bench.files(4, 4, 4, 4, 4))
    assert bench.held == [48, 48, 48, 32, 32]  # at each decode
    assert bench.runs == [[4, 4, 4, 4, 4]]


def test_large_outputs_are_held_in_parts_of_the_share_of_a_thread(bench):
    assert bench.answer(bench.files(4, 4, 5, 8, 4), large=True) == [4, 4, 5, 8, 4]
    assert bench.held == [32, 32, 25, 64, 16]  # an image beyond the share is alone
    assert bench.runs == [[4, 4], [5], [8], [4]]
    assert bench.budget.held == 0


def test_a_large_file_holds_its_bytes(bench, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes([2]) + bytes(10 * answering.BYTES_PER_PIXEL))
    bench.answer([file])
    assert bench.held == [10]


def test_a_file_beyond_the_limit_is_not_read(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "MAX_FILE_BYTES", 3)
    file = tmp_path / "large"
    file.write_bytes(bytes(4))
    refused = Failure("the file has more than 3 bytes", "payload_too_large")
    assert bench.answer([file, Path("/dev/zero")]) == [refused, refused]  # the latter has no end


def test_a_device_that_has_no_end_is_read_up_to_the_limit(bench, monkeypatch):
    monkeypatch.setattr(answering, "MAX_FILE_BYTES", 3 * answering.STREAM_BYTES)
    (failure,) = bench.answer([Path("/dev/zero")])
    assert failure.code == "payload_too_large"


def test_a_pipe_is_read_to_its_end(tmp_path):
    pipe, content = tmp_path / "pipe", bytes(range(256)) * 1000
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    assert answering.read(pipe) == content
    writer.join()


def test_a_result_that_cannot_be_written_whole_is_removed(tmp_path):
    resource_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource_limit[1]))
    try:
        with pytest.raises(WriteError, match="large"):
            write_result(tmp_path / "folder" / "result", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, resource_limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_lost_device_ends_the_batch(bench):
    def lost(inputs):
        raise DeviceLost("it is gone")

    bench.run = lost
    with pytest.raises(DeviceLost):
        bench.answer(bench.files(2))


def test_a_result_that_cannot_be_written_ends_the_batch(bench, tmp_path):
    (tmp_path / "taken").touch()

    def finish(file, photo, output, info):
        write_result(tmp_path / "taken" / "result", b"")

    with pytest.raises(WriteError, match="taken"):
        bench.answer(bench.files(2), finish)
