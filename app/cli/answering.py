"""Answers a batch of image files on the calling thread, in bounded memory."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import Generic, NamedTuple, TypeVar

from app.batching.bisecting import Cause, Computed, Run, run_bisecting
from app.cli.console import one_line
from app.cli.shared_state import SharedSemaphore
from app.core.errors import Internal, PayloadTooLarge, ServiceError
from app.core.malloc import release_after
from app.engine.interface import EngineInput, EngineOutput, ModelInfo, OutOfMemory
from app.imaging.decode import Photo

Value = TypeVar("Value")
MAX_FILE_BYTES = 2**30  # the most that a setting allows for the body of a request
STREAM_BYTES = 2**20  # that are read at once from a pipe or a device
BYTES_PER_PIXEL = 3  # of a decoded image


class Failure(NamedTuple):
    """Why a file has no answer: the reason in one line, and a code like those of the service."""

    reason: str
    code: str


class WriteError(Exception):
    """The result of an image cannot be written."""


@dataclass(frozen=True)
class Work(Generic[Value]):
    """What is done with each image.

    Attributes:
        make_input: makes the engine's input from the decoded image.
        finish: makes the answer from the file, the decoded image and the engine's output. It raises
            WriteError if it cannot write its result.
        cpu_batch_size: images of a batch on a CPU.
        keep_rgb: whether `finish` needs the pixels of the whole image.
        large: whether the engine's outputs have the size of the images.
    """

    make_input: Callable[[Photo, ModelInfo], EngineInput]
    finish: Callable[[Path, Photo, EngineOutput, ModelInfo], Value]
    cpu_batch_size: int
    keep_rgb: bool = False
    large: bool = False


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        decode: `app.imaging.decode.decode` with its limits.
        pixels: estimates from the bytes of a file how many pixels are decoded.
        budget: the decoded pixels of all processes or threads together.
        share: pixels of the budget that one process or thread uses, unless a single image has more.
    """

    decode: Callable[..., Photo]
    pixels: Callable[[bytes], int]
    budget: SharedSemaphore
    share: int


class Content(NamedTuple):
    """The bytes of a file, and its pixels according to its header."""

    data: bytes
    pixels: int

    @property
    def held(self) -> int:
        """Pixels with the memory of the decoded image or of the file, whichever is more."""
        return max(self.pixels, len(self.data) // BYTES_PER_PIXEL)


class Answerer(Generic[Value]):
    """Answers batches of files; threads and forked processes may call it at the same time.

    Args:
        work: what is done with each image.
        reading: how files are read.
        info: of the model.
        run: runs a batch on the engine.
        on_split: called with the cause and the size of each batch that is split.
    """

    def __init__(
        self,
        work: Work[Value],
        reading: Reading,
        info: ModelInfo,
        run: Run,
        on_split: Callable[[Cause, int], object],
    ) -> None:
        self._work = work
        self._reading = reading
        self._info = info
        self._run = run
        self._on_split = on_split

    def __call__(self, files: Sequence[Path]) -> list[Value | Failure]:
        """The answer of each file, in order, or why it has none.

        Images of one shape run together. An image that fails in any stage fails alone.

        Raises:
            WriteError: a result cannot be written.
            DeviceLost: the device cannot compute any more.
        """
        if self._work.large:
            return self._answer_in_parts(files)
        decoded: list[Photo | Failure] = []
        for part in self._parts(files):
            with self._reading.budget.hold(held(part)):
                decoded += [self._decode(content) for content in part]
            del part  # its bytes, before more are read
        return self._answer(files, decoded)

    def _answer_in_parts(self, files: Sequence[Path]) -> list[Value | Failure]:
        answers: list[Value | Failure] = []
        for part in self._parts(files):
            with self._reading.budget.hold(held(part)):
                decoded = [self._decode(content) for content in part]
                answers += self._answer(files[len(answers) :], decoded)
            del decoded
            release_after(held(part))
            del part  # its bytes, before more are read
        return answers

    def _parts(self, files: Sequence[Path]) -> Iterator[list[Content | Failure]]:
        """Read files, in parts that fit into the share of a worker or have one image."""
        part: list[Content | Failure] = []
        pixels = 0
        for file in files:
            content = self._read(file)
            more = held([content])
            if part and pixels + more > self._reading.share:
                yield part
                part, pixels = [], 0
            part.append(content)
            pixels += more
        yield part

    def _read(self, file: Path) -> Content | Failure:
        try:
            data = read(file)
        except (OSError, MemoryError, ServiceError) as error:
            return failure_of(error)
        return Content(data, self._reading.pixels(data))

    def _decode(self, content: Content | Failure) -> Photo | Failure:
        if isinstance(content, Failure):
            return content
        try:
            return self._reading.decode(
                content.data,
                self._info.preprocessing,
                keep_rgb=self._work.keep_rgb,
                reserved=content.pixels,
            )
        except Exception as error:  # noqa: BLE001  # the file gets it
            return failure_of(error)

    def _answer(
        self, files: Sequence[Path], decoded: Sequence[Photo | Failure]
    ) -> list[Value | Failure]:
        """Run decoded images, and finish each one."""
        shapes: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        photos: dict[int, Photo] = {}
        answers: dict[int, Value | Failure] = {}
        for place, photo in enumerate(decoded):
            if isinstance(photo, Failure):
                answers[place] = photo
            else:
                photos[place] = photo
                shapes[photo.pixels.shape].append(place)
        for places in shapes.values():
            inputs = [self._work.make_input(photos[place], self._info) for place in places]
            outputs = run_bisecting(inputs, self._run, self._on_split)
            for place, output in zip(places, outputs, strict=True):
                answers[place] = self._finish(files[place], photos[place], output)
        return [answers[place] for place in range(len(decoded))]

    def _finish(
        self, file: Path, photo: Photo, output: Computed | BaseException
    ) -> Value | Failure:
        if isinstance(output, BaseException):
            return failure_of(output)
        try:
            return self._work.finish(file, photo, output[0], self._info)
        except WriteError:
            raise
        except Exception as error:  # noqa: BLE001  # the file gets it
            return failure_of(error)


def held(contents: Sequence[Content | Failure]) -> int:
    """The pixels that files hold while they are decoded and finished."""
    return sum(content.held for content in contents if isinstance(content, Content))


def read(file: Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read.
        PayloadTooLarge: it has more than 1 GiB.
    """
    with FileIO(file) as opened:
        status = os.fstat(opened.fileno())
        if not S_ISREG(status.st_mode):
            return _read_stream(opened)
        if status.st_size > MAX_FILE_BYTES:
            raise _too_large()
        return opened.readall()


def _read_stream(stream: FileIO) -> bytes:
    """The bytes of a pipe or a device, which may never end."""
    data = bytearray()
    while part := stream.read(STREAM_BYTES):
        data += part
        if len(data) > MAX_FILE_BYTES:
            raise _too_large()
    return bytes(data)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"the file has more than {MAX_FILE_BYTES} bytes")


def write_result(target: Path, content: bytes) -> None:
    """Write the result of an image, and make its folder. A file of that name is whole at any time.

    Raises:
        WriteError: that fails.
    """
    unfinished = target.with_name(f".{target.name}.part")  # the process may end at once
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(unfinished, content)
        unfinished.replace(target)
    except OSError as error:
        raise WriteError(one_line(error)) from error


def _write(target: Path, content: bytes) -> None:
    """Write a file; without space for all of it, there is none."""
    with target.open("wb") as file:
        try:
            file.write(content)
            file.flush()
        except OSError:
            with suppress(OSError):
                target.unlink()
            raise


def failure_of(error: BaseException) -> Failure:
    """The failure of a file by an error."""
    match error:
        case ServiceError():
            return Failure(error.detail, error.code)
        case OSError():
            return Failure(error.strerror or one_line(error), "unreadable_file")
        case OutOfMemory() | MemoryError():
            return Failure(one_line(error), "out_of_memory")
    return Failure(f"{type(error).__name__}: {one_line(error)}", Internal.code)
