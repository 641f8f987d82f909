"""Owns one model put to service: its engine, its queue, and where its loading stands.

Knows nothing of HTTP; it takes image bytes and gives what the engine made of them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from app.batcher import Batcher, Ticket
from app.errors import NotReady, Overloaded
from app.images import Photo, decode
from app.lanes import Lane
from app.metrics import Metrics
from app.schemas import Task
from app.seam import EngineInput, EngineOutput, EngineSeam, ModelInfo
from app.trips import Trip

logger = logging.getLogger(__name__)

Status = Literal["waiting", "loading", "warming_up", "warm", "ready", "failed"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Output:
    """One result and the seconds of the batch that made it."""

    value: EngineOutput
    stages: dict[str, float]


class Deployment:
    """One model put to service.

    Args:
        name: what answers and metrics call it.
        task: what it does.
        engine: loads and runs it, on the lane only.
        lane: the device's thread, shared with the other models there.
        pool: the image threads.
        metrics: where its series are.
        max_batch_size: an upper bound; the measured costs may choose less.
        max_queue_size: images waiting at most.
        max_queue_delay_s: how long a lone image waits for company.
        max_image_pixels: of an image, before it is decoded.
        warm_up_s: how long the warm-up may take, in seconds.
    """

    def __init__(  # noqa: PLR0913  # the composition root calls it, by name
        self,
        *,
        name: str,
        task: Task,
        engine: EngineSeam,
        lane: Lane,
        pool: Executor,
        metrics: Metrics,
        max_batch_size: int,
        max_queue_size: int,
        max_queue_delay_s: float,
        max_image_pixels: int,
        warm_up_s: float,
    ) -> None:
        self.name = name
        self.task = task
        self.lane = lane
        self.status: Status = "waiting"
        self.costs: dict[int, float] = {}
        self.max_image_pixels = max_image_pixels
        self.batcher: Batcher[EngineInput, _Output] = Batcher(
            self._run_batch,
            slot=lane.slot,
            max_batch_size=max_batch_size,
            max_queue_size=max_queue_size,
            max_queue_delay_s=max_queue_delay_s,
            on_batch=self._count_batch,
        )
        self._warm_up_s = warm_up_s
        self._info: ModelInfo | None = None
        self._engine = engine
        self._pool = pool
        self._metrics = metrics

    @property
    def info(self) -> ModelInfo:
        """What is known of the model.

        Raises:
            NotReady: it is not loaded yet.
        """
        self.refuse_unready()
        assert self._info is not None  # noqa: S101  # set before the status
        return self._info

    @property
    def reason_unready(self) -> str | None:
        """Why the model cannot answer, or None."""
        if self.status != "ready":
            return f"{self.name} is {self.status}"
        return self.reason_dead

    @property
    def reason_dead(self) -> str | None:
        """Why only a restart can help, or None."""
        if not self.batcher.alive:
            return f"the queue of {self.name} has stopped"
        if not self.lane.alive:
            return f"the thread of {self.lane.name} has ended"
        if self.lane.stuck:
            return f"the thread of {self.lane.name} is stuck"
        return None

    async def start(self) -> None:
        """Load the model and warm it up, on the lane; `status` tells how far it is.

        It takes no work before `open`: the lane may have other models to load.
        """
        began = time.monotonic()
        try:
            self.status = "loading"
            info = await self.lane.run(self._engine.load, watched=False)
            loaded = time.monotonic()
            self.status = "warming_up"
            warm_up = partial(self._engine.warm_up, self.batcher.max_batch_size, self._warm_up_s)
            self.costs = await self.lane.run(warm_up, watched=False)
        except BaseException:
            self.status = "failed"
            raise
        self.lane.expect(max(self.costs.values()))
        self.batcher.max_batch_size = best_batch_size(self.costs)
        self.batcher.seconds_per_item = min(s / size for size, s in self.costs.items())
        self._info = info
        self.status = "warm"
        self._metrics.model_load.labels(self.name).set(loaded - began)
        self._metrics.warm_up.labels(self.name).set(time.monotonic() - loaded)
        self._metrics.model_info.labels(self.name, self.task, info.device, info.dtype).set(1)
        logger.info(
            "%s is warm on %s after %.1f s", self.name, info.device, time.monotonic() - began
        )

    def open(self) -> None:
        """Take work from now on."""
        self.status = "ready"

    def refuse_unready(self) -> None:
        """Raise NotReady, counted, unless the model can answer."""
        if self.status != "ready":
            self._metrics.rejections.labels(self.name, "not_ready").inc()
            raise NotReady(f"the model {self.name} is {self.status}", retry_after_s=1.0)

    def reserve(self, deadline: float) -> Ticket[EngineInput, _Output]:
        """A place in the queue, or an error that is counted with its reason."""
        try:
            return self.batcher.reserve(deadline)
        except Overloaded:
            full = self.batcher.depth >= self.batcher.max_queue_size
            reason = "queue_full" if full else "predicted_wait"
            self._metrics.rejections.labels(self.name, reason).inc()
            raise

    async def process(
        self,
        data: bytes,
        trip: Trip,
        make_input: Callable[[Photo], EngineInput],
        *,
        keep_rgb: bool = False,
    ) -> tuple[Photo, EngineOutput]:
        """Decode an image, wait for its batch, and return it with what the engine made of it.

        Args:
            data: an image file.
            trip: its deadline; the stages are written into it.
            make_input: the engine's input for the decoded image.
            keep_rgb: keep the whole image as well.

        Raises:
            ServiceError: refused, undecodable, late, or failed.
        """
        with self.reserve(trip.deadline) as ticket:
            photo = await self.in_pool(
                trip,
                "decode",
                partial(
                    decode,
                    data,
                    self.info.preprocessing,
                    max_pixels=self.max_image_pixels,
                    keep_rgb=keep_rgb,
                ),
            )
            self._metrics.image_pixels.labels(self.name).observe(photo.width * photo.height)
            try:
                one = make_input(photo)
                output = await ticket.run(one, key=(type(one), photo.pixels.shape))
            finally:  # also when the caller leaves: a batch may have taken the image by then
                trip.place = "compute" if ticket.batch_size else "queue"
            trip.stages |= {"queue": ticket.queue_seconds, **output.stages}
            trip.batch_size = ticket.batch_size
        return photo, output.value

    async def in_pool(self, trip: Trip, stage: str, work: Callable[[], Value]) -> Value:
        """Do one stage of a trip in an image thread; waiting for a thread counts as the stage."""
        trip.place = stage
        began = time.monotonic()
        value = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        trip.stages[stage] = time.monotonic() - began
        return value

    def refresh(self) -> None:
        """Set the gauges that change without an event, just before they are read."""
        self._metrics.queue_depth.labels(self.name).set(self.batcher.depth)
        self._metrics.queue_oldest_age.labels(self.name).set(self.batcher.oldest_age())
        self._metrics.predicted_wait.labels(self.name).set(self.batcher.predicted_wait())
        for kind, size in self._engine.memory().items():
            self._metrics.device_memory.labels(self.lane.name, kind).set(size)

    async def _run_batch(self, inputs: Sequence[EngineInput]) -> list[_Output]:
        batch = await self.lane.run(partial(self._engine.run, inputs))
        return [_Output(output, batch.stages) for output in batch.outputs]

    def _count_batch(self, size: int, seconds: float) -> None:
        self._metrics.batch_size.labels(self.name).observe(size)
        self._metrics.batch_duration.labels(self.name).observe(seconds)


def best_batch_size(costs: dict[int, float]) -> int:
    """The smallest measured batch size within a twentieth of the best cost per image."""
    per_image = {size: seconds / size for size, seconds in costs.items()}
    best = min(per_image.values())
    return min(size for size, cost in per_image.items() if cost <= 1.05 * best)
