"""Owns what runs while the app does: models, lanes, image threads, and the measured loop.

Knows nothing of routes or settings; it is given what they decided.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app.batching.deployment import Deployment
from app.batching.scheduler import DeviceScheduler
from app.core.background import background
from app.core.shutdown import Shutdown
from app.core.types import Task
from app.engine import lanes
from app.engine.interface import DeviceLost, InferenceEngine
from app.engine.lanes import Lane, reason_ended
from app.observability.metrics import Metrics

LAG_INTERVAL_S = 0.25
WATCH_S = 0.25
AHEAD = 3  # batches that a GPU's lane holds
WARM_UP_S = 10.0  # of all models together
OnFatal = Callable[[Exception], None]


@dataclass(frozen=True)
class ServingPlan:
    """What shall run.

    Attributes:
        device: the name of the one that all models share.
        engines: by task, a model's name and what makes its engine.
        queue: how many images wait, for how long, and how they are decoded: see `Deployment`.
    """

    device: str
    engines: Mapping[Task, tuple[str, Callable[[], InferenceEngine]]]
    queue: Mapping[str, Any]


@asynccontextmanager
async def serve_models(
    plan: ServingPlan, metrics: Metrics, shutdown: Shutdown, on_fatal: OnFatal
) -> AsyncIterator[dict[str, Any]]:
    """Run what was planned; the requests' state is given. The models load in the background.

    Args:
        plan: what shall run.
        metrics: where it is counted.
        shutdown: is told when work is taken.
        on_fatal: called, in the event loop, with why the service cannot go on.
    """
    async with AsyncExitStack() as stack:
        threads = lanes.image_threads()
        pool = ThreadPoolExecutor(threads, "images")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # one may decode for seconds
        scheduler = build_scheduler(plan.device, metrics)
        for lane in scheduler.lanes:
            stack.callback(lane.close)
        deployments: dict[Task, Deployment] = {}
        for task, (name, make_engine) in plan.engines.items():
            deployments[task] = Deployment(
                name=name,
                task=task,
                engine=make_engine(),
                scheduler=scheduler,
                pool=pool,
                image_threads=threads,
                metrics=metrics,
                warm_up_s=WARM_UP_S / len(plan.engines),
                on_lost=on_fatal,
                **plan.queue,
            )
            await stack.enter_async_context(deployments[task].batcher)
        for work in (
            start(deployments.values(), shutdown, on_fatal),
            measure_lag(metrics),
            watch(scheduler, on_fatal),
        ):
            await stack.enter_async_context(background(work))
        yield {
            "deployments": deployments,
            "metrics": metrics,
            "pool": pool,
            "shutdown": shutdown,
        }


def build_scheduler(name: str, metrics: Metrics) -> DeviceScheduler[Lane]:
    """The lanes of a device; the time of a narrow one is its share of the device's.

    What has no cores is given batches while it runs another: one is staged, and one waits for that,
    since a lane that found none when it looked would look again only after the running one.
    """
    busy = metrics.device_busy.labels(name)
    count = lanes.narrow_lanes(name)
    wide_threads = lanes.wide_threads(name)
    wide = Lane(name, busy.inc, wide_threads)
    narrow = [
        Lane(f"{name}-{number}", lambda seconds: busy.inc(seconds / count), threads=1)
        for number in range(count)
    ]
    return DeviceScheduler(wide, narrow, depth=1 if wide_threads else AHEAD)


async def start(deployments: Collection[Deployment], shutdown: Shutdown, on_fatal: OnFatal) -> None:
    """Load the models, one after the other; then open all: none waits behind another's loading."""
    try:
        for deployment in deployments:
            await deployment.start()
        shutdown.opened = True
        gc.collect()
        gc.freeze()  # or the collector looks at all that was loaded, again and again: 0.1 s each
        for deployment in deployments:
            deployment.open()
    except Exception as error:  # noqa: BLE001  # any failure to load is fatal, and told as one
        on_fatal(error)


async def measure_lag(metrics: Metrics) -> None:
    """Observe how late the loop wakes a timer, for as long as it runs, and publish the series."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        try:
            await asyncio.sleep(LAG_INTERVAL_S)
            metrics.event_loop_lag.observe(max(0.0, loop.time() - due))
        finally:  # also when it is ended
            metrics.publish()


async def watch(scheduler: DeviceScheduler[Lane], on_fatal: OnFatal) -> None:
    """See whether every lane's thread lives; one that has ended cannot be had back."""
    while (reason := reason_ended(scheduler.lanes)) is None:  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(WATCH_S)
    on_fatal(DeviceLost(reason))
