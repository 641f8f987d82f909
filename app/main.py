"""Owns the composition: settings become a running app with its models, queue, lane and threads.

Knows nothing of sockets or signals; whoever serves the app does.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any, Literal, Protocol

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from app import health, listing, routes
from app.answering import Limits
from app.deployment import Deployment
from app.edge import Edge, on_http_error, on_service_error
from app.engine import Engine
from app.errors import ServiceError
from app.lanes import Lane
from app.metrics import Metrics
from app.openapi import component_schemas
from app.placement import model_name, resolve_device
from app.schemas import Task
from app.seam import EngineSeam
from app.settings import Settings

LAG_INTERVAL_S = 0.25
WARM_UP_S = 10.0  # of all models together
DESCRIPTION = "Labels and masks of images, from a ViT classifier and a SegFormer segmenter."


class EngineFactory(Protocol):
    """Makes the engine of one model; the one seam for tests."""

    def __call__(
        self,
        source: str,
        *,
        task: Task,
        device: str,
        dtype: str,
        input_size: int,
        runtime: Literal["torch", "openvino", "auto"],
    ) -> EngineSeam:
        """An engine that has not loaded anything yet."""
        ...


def create_app(
    settings: Settings,
    engine_factory: EngineFactory = Engine,
    on_fatal: Callable[[Exception], None] = lambda error: None,
) -> FastAPI:
    """An app that serves the models of the settings.

    The port may be opened at once: the models load in the background and /startupz tells how far.

    Args:
        settings: what the operator decided.
        engine_factory: makes the engine of a model.
        on_fatal: called when a model cannot be loaded; the app never becomes ready then.

    Raises:
        ValueError: the settings ask for a device that is not there, or for no model.
    """
    device = resolve_device(settings.device)
    sources = model_sources(settings)
    if not sources:
        raise ValueError("there is no model to serve: classifier and segmenter are both none")
    names = model_names(sources)
    metrics = Metrics(names.values())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            pool = ThreadPoolExecutor(usable_cores(), "images")
            stack.callback(pool.shutdown, cancel_futures=True)
            lane = Lane(device, metrics.device_busy.labels(device).inc)
            stack.callback(lane.close)
            deployments: dict[Task, Deployment] = {}
            for task, source in sources.items():
                engine = engine_factory(
                    source,
                    task=task,
                    device=device,
                    dtype=settings.dtype,
                    input_size=input_size(settings, task),
                    runtime=settings.runtime,
                )
                deployment = Deployment(
                    name=names[task],
                    task=task,
                    engine=engine,
                    lane=lane,
                    pool=pool,
                    metrics=metrics,
                    max_batch_size=settings.max_batch_size,
                    max_queue_size=settings.max_queue_size,
                    max_queue_delay_s=settings.max_queue_delay_ms / 1000,
                    max_image_pixels=settings.max_image_pixels,
                    warm_up_s=WARM_UP_S / len(sources),
                )
                deployments[task] = deployment
                await stack.enter_async_context(deployment.batcher)
            for work in (start(deployments.values(), on_fatal), measure_lag(metrics)):
                stack.push_async_callback(cancel, asyncio.create_task(work))
            yield {
                "deployments": deployments,
                "metrics": metrics,
                "pool": pool,
                "limits": Limits(settings.max_body_bytes, settings.request_timeout_s),
            }

    return assemble(lifespan, metrics)


def assemble(lifespan: Any, metrics: Metrics) -> FastAPI:
    """The routes, what surrounds them, and their description."""
    app = FastAPI(
        title="patchserve",
        version=version("patchserve"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(routes.router)
    app.include_router(listing.router)
    app.include_router(health.router)
    metrics.start_routes(document(app)["paths"])
    app.add_middleware(Edge, metrics=metrics)
    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]  # FastAPI's way to extend it
    return app


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the schemas that the operations refer to."""
    if app.openapi_schema is None:
        described = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        described["components"] = {"schemas": component_schemas()}
        app.openapi_schema = described
    return app.openapi_schema


def usable_cores() -> int:
    """The cores that this process may use; all of them where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def model_sources(settings: Settings) -> dict[Task, str]:
    """Where each task's checkpoint comes from, without the tasks that have none."""
    sources: dict[Task, str] = {"classify": settings.classifier, "segment": settings.segmenter}
    return {task: source for task, source in sources.items() if source != "none"}


def input_size(settings: Settings, task: Task) -> int:
    """Pixels a side of the task's input; 0 is what the checkpoint says."""
    sizes = {
        "classify": settings.classifier_input_size,
        "segment": settings.segmenter_input_size,
    }
    return sizes[task]


def model_names(sources: Mapping[Task, str]) -> dict[Task, str]:
    """What each task's model is called; two checkpoints of one name get their task added."""
    names = {task: model_name(source, task) for task, source in sources.items()}
    if len(set(names.values())) < len(names):
        names = {task: f"{name}-{task}" for task, name in names.items()}
    return names


async def start(deployments: Collection[Deployment], on_fatal: Callable[[Exception], None]) -> None:
    """Load the models, one after the other; then open all: none waits behind another's loading."""
    try:
        for deployment in deployments:
            await deployment.start()
        for deployment in deployments:
            deployment.open()
    except Exception as error:  # noqa: BLE001  # any failure to load is fatal, and told as one
        on_fatal(error)


async def measure_lag(metrics: Metrics) -> None:
    """Observe how late the loop wakes a timer, for as long as it runs."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        metrics.event_loop_lag.observe(max(0.0, loop.time() - due))


async def cancel(task: asyncio.Task[None]) -> None:
    """End a background task and wait until it has."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
