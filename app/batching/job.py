"""The work on one image: from the file to the response body, stage by stage."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from app.core.errors import DeadlineExceeded
from app.core.malloc import release_after
from app.engine.interface import EngineInput, EngineOutput
from app.imaging.decode import Photo


@dataclass
class RequestContext:
    """Deadline and timings of one image request.

    Attributes:
        deadline: of the response, on the clock of the event loop, in seconds.
        stages: seconds of each finished stage.
        stage: current stage: `decode`, `queue`, `compute` or `encode`.
        batch_size: number of images in its batch; 0 before the batch.
        client: whose share of the device the request uses; None if it is unknown.
    """

    deadline: float
    stages: dict[str, float] = field(default_factory=dict)
    stage: str = "decode"
    batch_size: int = 0
    client: Hashable = None

    def server_timing(self) -> str:
        """The stages as a Server-Timing header, in milliseconds."""
        stages = dict(self.stages)  # a lane may still add stages
        timing = "".join([f"{name};dur={1e3 * took:.2f}, " for name, took in stages.items()])
        return f'{timing}batch;desc="{self.batch_size}"'

    def log_fields(self) -> dict[str, Any]:
        """The stages as fields of a log line, in milliseconds."""
        taken = dict(self.stages)  # a lane may still add stages
        stages = {name: round(seconds * 1000, 2) for name, seconds in taken.items()}
        return {"batch_size": self.batch_size, "stages_ms": stages}


Value = TypeVar("Value")


class Operation(NamedTuple):
    """What a request asks of an image.

    Attributes:
        name: of the operation and its form of response; operations of one name cost the same.
        kind: the engine's input type; all inputs of a batch have the same.
        make_input: makes the engine's input from the decoded image.
        encode: makes the response body from the decoded image and the engine's output.
        media_type: of the body.
        keep_rgb: whether `encode` needs the pixels of the whole image.
        work_per_pixel: work after decoding, in pixels of an ordinary JPEG for each pixel.
        engine_work: what the engine does for it besides the network; empty: nothing.
    """

    name: str
    kind: type[EngineInput]
    make_input: Callable[[Photo], EngineInput]
    encode: Callable[[Photo, EngineOutput], bytes]
    media_type: str
    keep_rgb: bool = False
    work_per_pixel: float = 0.0
    engine_work: str = ""


class Job:
    """One image, the operation on it, and the results so far.

    Args:
        operation: what is asked.
        context: gets the stages and their seconds.
        decode: decodes the image file.
        pixels: number of pixels that are decoded.

    Attributes:
        photo: the decoded image.
        output: of the engine.
        run_size: number of images in the engine's run, which may be a part of the batch.
        body: of the response.
        threads_s: seconds of the image threads.
    """

    photo: Photo
    output: EngineOutput
    body: bytes

    def __init__(
        self,
        operation: Operation,
        context: RequestContext,
        decode: Callable[[], Photo],
        pixels: int = 0,
    ) -> None:
        self.context = context
        self.pixels = pixels
        self.threads_s = 0.0
        self.run_size = 0
        self.operation = operation
        self._decode = decode
        self._cancelled = False

    def cancel(self) -> None:
        """Skip the stages that have not started; called in the event loop."""
        self._cancelled = True

    def check_wanted(self) -> None:
        """Raise DeadlineExceeded unless a client waits for the result and the deadline is ahead.

        No client gets the error: its request ended when the job was cancelled, or ends now.
        """
        if self._cancelled or time.monotonic() >= self.context.deadline:
            raise DeadlineExceeded("no client waits for the image")

    def decode(self) -> None:
        """Set `photo`.

        Raises:
            DeadlineExceeded: no client waits for the image.
            ServiceError: the image cannot be decoded, or is too large.
        """
        self.photo = self._stage("decode", self._decode)

    def start_compute(self) -> EngineInput:
        """Enter the stage `compute` and return the engine's input."""
        self.context.stage = "compute"
        return self.operation.make_input(self.photo)

    def set_output(self, output: EngineOutput, stages: dict[str, float], run_size: int) -> None:
        """Set `output` and `run_size`, and add the seconds of each stage of the engine's run."""
        self.output, self.run_size = output, run_size
        self.context.stages.update(stages)

    def encode(self) -> None:
        """Set `body`, and release the memory of the image.

        Raises:
            DeadlineExceeded: no client waits for the image.
        """
        self.body = self._stage("encode", lambda: self.operation.encode(self.photo, self.output))
        if self.photo.rgb is not None:
            self.photo = self.photo._replace(rgb=None)
        release_after(self.photo.width * self.photo.height)

    def _stage(self, name: str, work: Callable[[], Value]) -> Value:
        self.check_wanted()
        self.context.stage = name
        start = time.monotonic()
        value = work()
        self.context.stages[name] = time.monotonic() - start
        return value
