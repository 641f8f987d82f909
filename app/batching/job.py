"""Owns the work on one image: from its file to the body of the answer, stage by stage.

Knows nothing of queues, threads or HTTP; whoever calls it decides where the stages run.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from app.core.malloc import release_after
from app.engine.interface import EngineInput, EngineOutput
from app.imaging.decode import Photo


@dataclass
class RequestContext:
    """One image on its way.

    Attributes:
        deadline: when the answer must be there, on the clock of the loop, in seconds.
        stages: the seconds spent in each stage so far.
        stage: where the image is: `decode`, `queue`, `compute` or `encode`.
        batch_size: how many images shared its batch; 0 before it.
    """

    deadline: float
    stages: dict[str, float] = field(default_factory=dict)
    stage: str = "decode"
    batch_size: int = 0

    def server_timing(self) -> str:
        """The stages as a Server-Timing header, in milliseconds."""
        stages = "".join([f"{name};dur={1e3 * took:.2f}, " for name, took in self.stages.items()])
        return f'{stages}batch;desc="{self.batch_size}"'

    def log_fields(self) -> dict[str, Any]:
        """The same for a line of the log."""
        stages = {name: round(seconds * 1000, 2) for name, seconds in self.stages.items()}
        return {"batch_size": self.batch_size, "stages_ms": stages}


Value = TypeVar("Value")


class Operation(NamedTuple):
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
        operation: what is asked.
        context: where the stages and their seconds are noted.
        decode: makes the photo of the image file.
    """

    photo: Photo
    output: EngineOutput
    body: bytes

    def __init__(
        self, operation: Operation, context: RequestContext, decode: Callable[[], Photo]
    ) -> None:
        self.context = context
        self._operation = operation
        self._decode = decode

    def compute_input(self) -> EngineInput:
        """What the engine is given, once the image is decoded: it is the engine's turn now."""
        self.context.stage = "compute"
        return self._operation.make_input(self.photo)

    def decode(self) -> None:
        """Make the photo.

        Raises:
            ServiceError: it cannot be decoded, or is too large.
        """
        self.photo = self._stage("decode", self._decode)

    def computed(self, output: EngineOutput, stages: dict[str, float]) -> None:
        """Take what the engine made of the image, and the seconds that its batch took."""
        self.output = output
        self.context.stages.update(stages)

    def encode(self) -> None:
        """Make the body of the answer."""
        self.body = self._stage("encode", lambda: self._operation.encode(self.photo, self.output))
        if self.photo.rgb is not None:
            self.photo = self.photo._replace(rgb=None)
        release_after(self.photo.width * self.photo.height)

    def _stage(self, name: str, work: Callable[[], Value]) -> Value:
        self.context.stage = name
        began = time.monotonic()
        value = work()
        self.context.stages[name] = time.monotonic() - began
        return value
