"""One served model: its loading state, its batcher, and the path from image file to response."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Literal

from app.batching.batcher import Batcher
from app.batching.job import Job, Operation, RequestContext
from app.batching.request_queue import Entry
from app.batching.runner import Cause, Runner, lost
from app.batching.scheduler import DeviceScheduler
from app.batching.warmup import measure
from app.core.errors import RETRY_AFTER_S, NotReady, Overloaded
from app.core.types import Task
from app.engine.interface import InferenceEngine, ModelInfo
from app.engine.lanes import Lane, lane_ended_reason, lane_stuck_reason
from app.imaging.decode import Photo
from app.observability.metrics import Metrics

logger = logging.getLogger(__name__)

Status = Literal["waiting", "loading", "warming_up", "warm", "ready", "failed"]


class Deployment:
    """One served model.

    Args:
        name: in responses and metrics.
        task: of the model.
        engine: loads and runs the model; used on the device's lanes only.
        scheduler: has the device's lanes, which all models of the device share.
        pool: the image threads.
        image_threads: number of threads in `pool`.
        metrics: get the measurements.
        max_batch_size: most images in a batch; the measured costs may choose less.
        max_queue_size: most images in the queue.
        max_queue_delay_s: how long an image may wait for a full batch, in seconds.
        decode: `app.imaging.decode.decode` with its limits.
        warm_up_s: time limit of the warm-up, in seconds.
        on_lost: called when the device is lost.
    """

    def __init__(  # noqa: PLR0913  # the composition root calls it, by name
        self,
        *,
        name: str,
        task: Task,
        engine: InferenceEngine,
        scheduler: DeviceScheduler[Lane],
        pool: Executor,
        image_threads: int,
        metrics: Metrics,
        max_batch_size: int,
        max_queue_size: int,
        max_queue_delay_s: float,
        decode: Callable[..., Photo],
        warm_up_s: float,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self.name = name
        self.task = task
        self.scheduler = scheduler
        self.status: Status = "waiting"
        self.waits_for: str | None = None  # the model that is being loaded
        self._runner = Runner(engine, scheduler, self._on_split, on_lost)
        self.batcher: Batcher[Job, Job, Lane] = Batcher(
            lambda lane, take: self._runner.send(lane, take, whole=self.lane_does_everything),
            scheduler=scheduler,
            max_batch_size=max_batch_size,
            max_queue_size=max_queue_size,
            max_queue_delay_s=max_queue_delay_s,
            on_batch=self._on_batch,
        )
        self._decode = decode
        self._max_batch_size = max_batch_size
        self._warm_up_s = warm_up_s
        self._info: ModelInfo | None = None
        self._engine = engine
        self._pool = pool
        self._image_threads = image_threads
        self._metrics = metrics

    @property
    def info(self) -> ModelInfo:
        """What is known of the model.

        Raises:
            NotReady: it is not loaded yet.
        """
        if self._info is None:
            raise self._not_ready()
        return self._info

    @property
    def reason_unready(self) -> str | None:
        """Why the model cannot serve requests, or None."""
        if self.status != "ready":
            return f"{self.name} is {self.status}"
        return self.reason_dead

    @property
    def reason_dead(self) -> str | None:
        """Why the process has to be restarted, or None."""
        if self.scheduler.lost is not None:
            return f"{self.scheduler.wide.name} has failed: {self.scheduler.lost}"
        return lane_ended_reason(self.scheduler.lanes) or self.reason_stuck

    @property
    def reason_stuck(self) -> str | None:
        """Why the parent must kill this process, or None.

        After a lost device or an ended thread of a lane, the process exits by itself.
        """
        if not self.batcher.alive:
            return f"the queue of {self.name} has stopped"
        return lane_stuck_reason(self.scheduler.lanes)

    @property
    def lane_does_everything(self) -> bool:
        """Whether the lane that computes an image also decodes and encodes it."""
        return bool(self.batcher.sizer.costs.narrow)

    async def start(self) -> None:
        """Load the model and warm it up, on the lanes; `status` is the progress.

        It serves no requests before `open`, because other models may still load on the lanes.
        """
        start = time.monotonic()
        try:
            self.status = "loading"
            info = await self.scheduler.wide.run(self._engine.load, watched=False)
            loaded = time.monotonic()
            self.status = "warming_up"
            costs = await measure(
                self._engine, self.scheduler, info, self._max_batch_size, self._warm_up_s
            )
        except BaseException:
            self.status = "failed"
            raise
        for lane in self.scheduler.lanes:
            lane.allow_batch_s(costs.slowest)
        self.batcher.measured(costs)
        self._info = info
        self.status = "warm"
        self._metrics.model_load.labels(self.name).set(loaded - start)
        self._metrics.warm_up.labels(self.name).set(time.monotonic() - loaded)
        self._metrics.model_info.labels(self.name, self.task, info.device, info.dtype).set(1)
        logger.info(
            "%s is warm on %s after %.1f s", self.name, info.device, time.monotonic() - start
        )

    def open(self) -> None:
        """Serve requests from now on."""
        self.status = "ready"

    def refuse_unready(self) -> None:
        """Raise NotReady, counted, unless the model can answer."""
        if self.status != "ready":
            self._metrics.rejections.labels(self.name, "not_ready").inc()
            raise self._not_ready()
        if self.scheduler.lost is not None:
            self._metrics.rejections.labels(self.name, "not_ready").inc()
            raise lost()

    def _not_ready(self) -> NotReady:
        other = f", but {self.waits_for} still loads" if self.status == "warm" else ""
        detail = f"the model {self.name} is {self.status}{other}"
        return NotReady(detail, retry_after_s=RETRY_AFTER_S)

    def reserve(self, deadline: float) -> Entry[Job, Job]:
        """Add an entry to the queue, as `AdmissionController.reserve`; count a refusal."""
        try:
            return self.batcher.admission.reserve(deadline)
        except Overloaded:
            reason = "queue_full" if self.batcher.admission.full else "predicted_wait"
            self._metrics.rejections.labels(self.name, reason).inc()
            raise

    async def infer(self, data: bytes, context: RequestContext, operation: Operation) -> bytes:
        """Decode an image, run it in a batch, and encode the response.

        A model with narrow lanes does all of it on the lane. For other models, image threads decode
        before the queue and encode after the batch, so that the device never waits for them.

        Args:
            data: an image file.
            context: has the deadline; gets the stages.
            operation: what is asked of the image.

        Returns:
            The response body.

        Raises:
            ServiceError: the image was refused, could not be decoded, was late, or failed.
        """
        make_photo = partial(
            self._decode, data, self.info.preprocessing, keep_rgb=operation.keep_rgb
        )
        job = Job(operation, context, make_photo)
        try:
            return await self._run(job, context, operation)
        finally:
            job.cancel()  # after an error, a lane or an image thread may still have it

    async def _run(self, job: Job, context: RequestContext, operation: Operation) -> bytes:
        whole = self.lane_does_everything
        pool_s = 0.0  # seconds of image threads
        with self.reserve(context.deadline) as entry:
            if not whole:
                pool_s += await self._run_in_pool(context, "decode", job.decode)
            context.stage = "queue"
            shape = () if whole else job.photo.pixels.shape
            queued = time.monotonic()  # the loop's own clock may be a millisecond late
            await self.batcher.run(entry, job, (operation.kind.__name__, shape))
            context.stages["queue"] = entry.started - queued
            context.batch_size = entry.batch_size
        metrics, pixels = self._metrics, job.photo.width * job.photo.height
        metrics.buffer.record(pixels, metrics.image_pixels, self.name)
        if whole:
            self.batcher.sizer.observe_lane_overhead(
                context.stages["decode"] + context.stages["encode"]
            )
        else:
            pool_s += await self._run_in_pool(context, "encode", job.encode)
            self.batcher.sizer.pool_s.add(pool_s / self._image_threads)
        return job.body

    async def _run_in_pool(
        self, context: RequestContext, stage: str, work: Callable[[], None]
    ) -> float:
        """Run one stage of a job in an image thread, and return its seconds there.

        In the context, the stage includes the wait for a thread.
        """
        context.stage = stage
        start = time.monotonic()
        await asyncio.get_running_loop().run_in_executor(self._pool, work)
        seconds = context.stages[stage]
        context.stages[stage] = time.monotonic() - start
        return seconds

    def refresh(self) -> None:
        """Update the gauges that no event updates; called before the metrics are read."""
        batcher = self.batcher
        self._metrics.queue_depth.labels(self.name).set(len(batcher.queue))
        self._metrics.queue_oldest_age.labels(self.name).set(batcher.queue.oldest_age())
        self._metrics.predicted_wait.labels(self.name).set(batcher.admission.predicted_wait())
        for kind, size in self._engine.memory().items():
            self._metrics.device_memory.labels(self.scheduler.wide.name, kind).set(size)

    def _on_split(self, cause: Cause, size: int) -> None:
        """Count a batch that was split; after an out-of-memory error, lower the batch limit."""
        self._metrics.batch_splits.labels(cause).inc()
        if cause == "out_of_memory":
            self._metrics.out_of_memory.inc()
            self.batcher.sizer.on_out_of_memory(size)

    def _on_batch(self, size: int, seconds: float) -> None:
        metrics = self._metrics
        metrics.buffer.record(size, metrics.batch_size, self.name)
        metrics.buffer.record(seconds, metrics.batch_duration, self.name)
