"""Owns the work on one image: from its file to the body of the answer, stage by stage.

Knows nothing of queues, threads or HTTP; whoever calls it decides where the stages run.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from app.batching.isolation import OnSplit, Run, isolated
from app.batching.trips import Trip
from app.core.errors import Overloaded
from app.core.malloc import release_after
from app.engine.interface import Batch, EngineInput, EngineOutput, OutOfMemory
from app.imaging.decode import Photo

Value = TypeVar("Value")
NO_MEMORY_RETRY_S = 5.0  # others may have given some back


class Question(NamedTuple):
    """What is asked of an image.

    Attributes:
        kind: the engine's input type; a batch is of one kind.
        make_input: the engine's input for the decoded image.
        encode: the body of the answer, from the image and what the engine made of it.
        media_type: of that body.
        keep_rgb: whether `encode` needs the whole image.
    """

    kind: type[EngineInput]
    make_input: Callable[[Photo], EngineInput]
    encode: Callable[[Photo, EngineOutput], bytes]
    media_type: str
    keep_rgb: bool = False


class Job:
    """One image, the question about it, and what has come of it so far.

    Args:
        question: what is asked.
        trip: where the stages and their seconds are noted.
        decode: makes the photo of the image file.
    """

    photo: Photo
    output: EngineOutput
    body: bytes

    def __init__(self, question: Question, trip: Trip, decode: Callable[[], Photo]) -> None:
        self.trip = trip
        self._question = question
        self._decode = decode

    def compute_input(self) -> EngineInput:
        """What the engine is given, once the image is decoded: it is the engine's turn now."""
        self.trip.place = "compute"
        return self._question.make_input(self.photo)

    def decode(self) -> None:
        """Make the photo.

        Raises:
            ServiceError: it cannot be decoded, or is too large.
        """
        self.photo = self._stage("decode", self._decode)

    def computed(self, output: EngineOutput, stages: dict[str, float]) -> None:
        """Take what the engine made of the image, and the seconds that its batch took."""
        self.output = output
        self.trip.stages.update(stages)

    def encode(self) -> None:
        """Make the body of the answer."""
        self.body = self._stage("encode", lambda: self._question.encode(self.photo, self.output))
        if self.photo.rgb is not None:
            self.photo = self.photo._replace(rgb=None)
        release_after(self.photo.width * self.photo.height)

    def _stage(self, name: str, work: Callable[[], Value]) -> Value:
        self.trip.place = name
        began = time.monotonic()
        value = work()
        self.trip.stages[name] = time.monotonic() - began
        return value


Outcome = Job | BaseException  # a job that went well, or why it did not


def compute(
    jobs: Sequence[Job], run: Run, on_split: OnSplit, begun: Callable[[], Batch] | None = None
) -> list[Outcome]:
    """Let decoded jobs of one kind and shape be computed; who is at fault fails alone.

    See `isolated` for the arguments, and for what is raised.
    """
    outcomes: list[Outcome] = []
    found = isolated([job.compute_input() for job in jobs], run, on_split, begun)
    for job, one in zip(jobs, found, strict=True):
        if isinstance(one, OutOfMemory):
            outcomes.append(no_memory())
        elif isinstance(one, BaseException):
            outcomes.append(one)
        else:
            job.computed(*one)
            outcomes.append(job)
    return outcomes


def no_memory() -> Overloaded:
    """What the caller is told of an image that does not fit into the device's memory by itself."""
    return Overloaded(
        "the device has no memory for this image now", retry_after_s=NO_MEMORY_RETRY_S
    )


def fulfil(jobs: Sequence[Job], run: Run, on_split: OnSplit) -> list[Outcome]:
    """Do all the work of jobs of one kind, on the thread that calls; in their order.

    One that cannot be decoded, computed or encoded fails alone, the rest go on. Images of a network
    that takes any size may differ in shape; equal ones share a run.
    """
    outcomes: dict[Job, Outcome] = {}
    shapes: defaultdict[tuple[int, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        if _tried(job, job.decode, outcomes):
            shapes[job.photo.pixels.shape].append(job)
    for equal in shapes.values():
        for job, outcome in zip(equal, compute(equal, run, on_split), strict=True):
            outcomes[job] = outcome
            if outcome is job:
                _tried(job, job.encode, outcomes)
    return [outcomes[job] for job in jobs]


def _tried(job: Job, work: Callable[[], None], outcomes: dict[Job, Outcome]) -> bool:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # it belongs to the caller
        outcomes[job] = error
        return False
    outcomes[job] = job
    return True
