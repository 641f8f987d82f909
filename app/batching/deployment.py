"""One served model: its loading state, its batcher, and the path from image file to response."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

from app.batching.batcher import Batcher
from app.batching.bisecting import Cause
from app.batching.entry import Entry
from app.batching.fair_queue import flow_of
from app.batching.image_costs import ImageCosts
from app.batching.image_threads import ImageTask, ImageThreads
from app.batching.job import Job, Operation, RequestContext
from app.batching.runner import Runner, lost
from app.batching.scheduler import DeviceScheduler
from app.batching.warmup import measure, measure_explanations
from app.core.errors import RETRY_AFTER_S, NotReady, Overloaded
from app.core.types import Task
from app.engine.interface import InferenceEngine, ModelInfo
from app.engine.lanes import Lane, lane_ended_reason, lane_stuck_reason
from app.imaging.cost import DecodeCost
from app.imaging.decode import Photo
from app.imaging.pixel_budget import WeightedSemaphore
from app.observability.metrics import Metrics

logger = logging.getLogger(__name__)

MIN_NETWORK_S = 1e-5  # of one image; a divisor, and a network without a measured cost has 0

Status = Literal["waiting", "loading", "warming_up", "warm", "ready", "failed"]


class Deployment:
    """One served model.

    Args:
        name: in responses and metrics.
        task: of the model.
        engine: loads and runs the model; used on the device's lanes only.
        scheduler: has the device's lanes, which all models of the device share.
        image_threads: decode and encode, if the lanes do not.
        budget: the pixels of all decoded images.
        metrics: get the measurements.
        max_batch_size: most images in a batch; the measured costs may choose less.
        max_queue_size: most images in the queue.
        max_queue_delay_s: how long an image may wait for a full batch, in seconds.
        decode: `app.imaging.decode.decode` with its limits.
        decode_cost: `app.imaging.cost.decode_cost` with its limit.
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
        image_threads: ImageThreads,
        budget: WeightedSemaphore,
        metrics: Metrics,
        max_batch_size: int,
        max_queue_size: int,
        max_queue_delay_s: float,
        decode: Callable[..., Photo],
        decode_cost: Callable[[bytes], DecodeCost],
        warm_up_s: float,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self.name = name
        self.task = task
        self.scheduler = scheduler
        self.status: Status = "waiting"
        self.waits_for: str | None = None  # the model that is being loaded
        self._runner = Runner(engine, scheduler, budget, self._on_split, on_lost)
        self.batcher: Batcher[Job, Job, Lane] = Batcher(
            lambda lane, take, settle: self._runner.send(
                lane, take, settle, whole=self.lane_does_everything
            ),
            scheduler=scheduler,
            max_batch_size=max_batch_size,
            max_queue_size=max_queue_size,
            max_queue_delay_s=max_queue_delay_s,
            image_threads=image_threads.count,
            on_batch=self._on_batch,
        )
        self._decode = decode
        self._decode_cost = decode_cost
        self._max_batch_size = max_batch_size
        self._warm_up_s = warm_up_s
        self._info: ModelInfo | None = None
        self._engine = engine
        self._image_threads = image_threads
        self._costs = ImageCosts()
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
            await self._warm_up(info)
        except BaseException:
            self.status = "failed"
            raise
        self._info = info
        self.status = "warm"
        self._metrics.model_load.labels(self.name).set(loaded - start)
        self._metrics.warm_up.labels(self.name).set(time.monotonic() - loaded)
        self._metrics.model_info.labels(self.name, self.task, info.device, info.dtype).set(1)
        logger.info(
            "%s is warm on %s after %.1f s", self.name, info.device, time.monotonic() - start
        )

    async def _warm_up(self, info: ModelInfo) -> None:
        engine, scheduler = self._engine, self.scheduler
        costs = await measure(engine, scheduler, info, self._max_batch_size, self._warm_up_s)
        explanations = await measure_explanations(engine, scheduler, info, costs)
        for lane in scheduler.lanes:
            lane.allow_batch_s(costs.slowest)
        self.batcher.measured(costs)
        for method, seconds in explanations.items():
            self._costs.observe_engine(method, seconds)

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
        pixels, work = self._decode_cost(data)
        make_photo = partial(
            self._decode,
            data,
            self.info.preprocessing,
            keep_rgb=operation.keep_rgb,
            reserved=pixels,
        )
        work += pixels * operation.work_per_pixel
        extra_s, items = self._expected(operation, work)
        job = Job(operation, context, make_photo, pixels)
        try:
            if self.lane_does_everything:
                with self._reserve(context, extra_s) as entry:
                    await self._run(job, entry, ())
            else:
                await self._run_with_threads(job, extra_s, items)
        except Overloaded as error:
            if error.reason is not None:
                self._metrics.rejections.labels(self.name, error.reason).inc()
            raise
        finally:
            job.cancel()  # after an error, a lane or an image thread may still have it
        self._observe(job, work, operation)
        return job.body

    def _expected(self, operation: Operation, work: float) -> tuple[float, float]:
        """`extra_s` and `items` of an image's entry."""
        seconds = self._costs.seconds(operation.name, work)
        if not operation.engine_work:
            return seconds, 1.0
        network_s = self.batcher.queue.item_s
        engine_s = self._costs.engine_seconds(operation.engine_work, network_s)
        if self.lane_does_everything:
            return seconds + engine_s, 1.0
        return seconds, 1.0 + engine_s / max(network_s, MIN_NETWORK_S)

    def _reserve(
        self, context: RequestContext, extra_s: float, items: float = 1.0
    ) -> Entry[Job, Job]:
        return self.batcher.admission.reserve(context.deadline, context.client, extra_s, items)

    async def _run(self, job: Job, entry: Entry[Job, Job], shape: tuple[int, ...]) -> None:
        context = job.context
        context.stage = "queue"
        queued = time.monotonic()  # the loop's own clock may be a millisecond late
        await self.batcher.run(entry, job, (job.operation.kind.__name__, shape))
        context.stages["queue"] = entry.started - queued
        context.batch_size = entry.batch_size

    async def _run_with_threads(self, job: Job, extra_s: float, items: float) -> None:
        """Run a job whose image is decoded and encoded by image threads.

        In the context, their stages include the wait for a thread.
        """
        threads, context, stages = self._image_threads, job.context, job.context.stages
        flow, keep = flow_of(context.client, extra_s), job.operation.keep_rgb
        task = ImageTask(flow, context.deadline, extra_s, job.pixels, keep=keep)
        try:
            with self._reserve(context, extra_s, items) as entry:
                entry.future.add_done_callback(partial(self._drop, task))
                start = time.monotonic()
                await threads.decode(job.decode, task)
                job.threads_s, stages["decode"] = stages["decode"], time.monotonic() - start
                await self._run(job, entry, job.photo.pixels.shape)
            context.stage, start = "encode", time.monotonic()
            await threads.encode(job.encode, task)
            job.threads_s += stages["encode"]
            stages["encode"] = time.monotonic() - start
        finally:
            threads.close(task)

    def _drop(self, task: ImageTask, future: asyncio.Future[Job]) -> None:
        """End a task whose entry has lost its place."""
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Overloaded):
            self._image_threads.drop(task, error)

    def _observe(self, job: Job, work: float, operation: Operation) -> None:
        """Learn from a finished job what its operation costs."""
        metrics, stages, size = self._metrics, job.context.stages, job.run_size
        metrics.buffer.record(job.photo.width * job.photo.height, metrics.image_pixels, self.name)
        if operation.engine_work:
            engine_s = (stages["compute"] + stages["postprocess"]) / size
            self._costs.observe_engine(
                operation.engine_work, max(0.0, engine_s - self.batcher.queue.item_s)
            )
        if not self.lane_does_everything:
            self._costs.observe(operation.name, work, job.threads_s)
            return
        seconds = stages["decode"] + stages["encode"]
        self.batcher.sizer.observe_lane_overhead(seconds)
        if not operation.engine_work:
            seconds += stages["postprocess"] / size
        self._costs.observe(operation.name, work, seconds)

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
