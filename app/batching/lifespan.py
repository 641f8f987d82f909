"""Starts and stops what the app runs in the background: lanes, threads, models, metrics."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app.batching.deployment import Deployment
from app.batching.image_threads import ImageThreads
from app.batching.scheduler import DeviceScheduler
from app.core.background import background
from app.core.shutdown import Shutdown
from app.core.types import Task
from app.engine import lanes
from app.engine.interface import DeviceLost, InferenceEngine
from app.engine.lanes import Lane, lane_ended_reason
from app.imaging.pixel_budget import WeightedSemaphore
from app.observability.metrics import Metrics

PUBLISH_INTERVAL_S = 0.25  # between two publications of the metrics
LANE_CHECK_INTERVAL_S = 0.25  # between two checks that the lanes' threads are alive
GPU_DEPTH = 3  # batches on the lane of a GPU: one runs, one is staged, one waits to be staged
WARM_UP_S = 10.0  # time limit of the warm-up of all models together
OnFatal = Callable[[Exception], None]
OnReady = Callable[[Collection[Deployment]], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServingPlan:
    """The models to serve.

    Attributes:
        device: name of the device that all models share.
        cores: number of cores to use.
        engines: for each task the model's name and a function that makes its engine.
        max_decoded_pixels: of all images together.
        deployment_options: further arguments of each `Deployment`.
    """

    device: str
    cores: int
    engines: Mapping[Task, tuple[str, Callable[[], InferenceEngine]]]
    max_decoded_pixels: int
    deployment_options: Mapping[str, Any]


@asynccontextmanager
async def serve_models(
    plan: ServingPlan,
    metrics: Metrics,
    shutdown: Shutdown,
    on_fatal: OnFatal,
    on_ready: OnReady,
) -> AsyncIterator[dict[str, Any]]:
    """Run the models of a plan; they load in the background.

    Args:
        plan: the models.
        metrics: get the measurements.
        shutdown: gets `opened` when all models are loaded.
        on_fatal: called in the event loop with the reason why the service cannot continue.
        on_ready: called in the event loop with the models when all of them serve requests.

    Yields:
        The state of the requests.
    """
    async with AsyncExitStack() as stack:
        threads = lanes.image_threads(plan.device, plan.cores)
        pool = ThreadPoolExecutor(threads, "images")
        # without waiting: a thread may be in a decode of several seconds
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        image_threads = ImageThreads(pool, threads, plan.max_decoded_pixels)
        scheduler = build_scheduler(plan.device, plan.cores, metrics)
        logger.info("device: %s, cores: %d", plan.device, plan.cores)
        for lane in scheduler.lanes:
            stack.callback(lane.close)
        deployments = make_deployments(plan, scheduler, image_threads, metrics, on_fatal)
        for deployment in deployments.values():
            await stack.enter_async_context(deployment.batcher)
        for work in (
            start(deployments.values(), shutdown, on_fatal, on_ready),
            publish_metrics(metrics),
            watch(scheduler, on_fatal),
        ):
            await stack.enter_async_context(background(work))
        yield {
            "deployments": deployments,
            "metrics": metrics,
            "pool": pool,
            "shutdown": shutdown,
        }


def make_deployments(
    plan: ServingPlan,
    scheduler: DeviceScheduler[Lane],
    image_threads: ImageThreads,
    metrics: Metrics,
    on_fatal: OnFatal,
) -> dict[Task, Deployment]:
    """Make the deployment of each model; all share the lanes and the image threads."""
    # of the lanes that decode; with the budget of the threads they could wait for each other
    budget = WeightedSemaphore(plan.max_decoded_pixels)
    return {
        task: Deployment(
            name=name,
            task=task,
            engine=make_engine(),
            scheduler=scheduler,
            image_threads=image_threads,
            budget=budget,
            metrics=metrics,
            warm_up_s=WARM_UP_S / len(plan.engines),
            on_lost=on_fatal,
            **plan.deployment_options,
        )
        for task, (name, make_engine) in plan.engines.items()
    }


def build_scheduler(name: str, cores: int, metrics: Metrics) -> DeviceScheduler[Lane]:
    """Make the lanes of a device and their scheduler.

    On a GPU one batch runs and the next one is staged. A third one waits in the queue of the lane,
    so that the lane can stage it without waiting for the event loop.
    """
    busy = metrics.device_busy.labels(name)
    count = lanes.narrow_lanes(name, cores)
    wide_threads = lanes.wide_threads(name, cores)
    wide = Lane(name, busy.inc, wide_threads, timed=bool(wide_threads))
    narrow = [
        Lane(f"{name}-{number}", busy.inc, threads=1, share=1 / count) for number in range(count)
    ]
    return DeviceScheduler(wide, narrow, depth=1 if wide_threads else GPU_DEPTH)


async def start(
    deployments: Collection[Deployment], shutdown: Shutdown, on_fatal: OnFatal, on_ready: OnReady
) -> None:
    """Load the models one after the other, then open all of them.

    A model that served while another one loads would wait for its lanes.
    """
    try:
        for deployment in deployments:
            for other in deployments:
                other.waits_for = deployment.name
            await deployment.start()
        shutdown.opened = True
        gc.collect()
        gc.freeze()  # a collection that visits all that was loaded takes 0.1 s
        for deployment in deployments:
            deployment.open()
        on_ready(deployments)
    except Exception as error:  # noqa: BLE001  # every failure to load is fatal
        on_fatal(error)


async def publish_metrics(metrics: Metrics) -> None:
    """Publish the metrics at each tick, with the delay of the tick, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PUBLISH_INTERVAL_S
        try:
            await asyncio.sleep(PUBLISH_INTERVAL_S)
            metrics.event_loop_lag.observe(max(0.0, loop.time() - due))
        finally:  # also when cancelled
            metrics.publish()


async def watch(scheduler: DeviceScheduler[Lane], on_fatal: OnFatal) -> None:
    """Call `on_fatal` when the thread of a lane has ended; it cannot be restarted."""
    while (reason := lane_ended_reason(scheduler.lanes)) is None:  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(LANE_CHECK_INTERVAL_S)
    on_fatal(DeviceLost(reason))
