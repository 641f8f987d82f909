"""Owns the composition: settings become an app with its routes and what runs behind them.

Knows nothing of sockets or signals; whoever serves the app does.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.metadata import version
from typing import Any, Literal, Protocol

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app import health, listing, routes
from app.answering import Limits
from app.budget import Budget
from app.edge import Edge
from app.endpoints import App, Dispatcher
from app.engine import Engine
from app.images import decode
from app.lifespan import Plan, running
from app.metrics import Metrics
from app.openapi import component_schemas
from app.placement import model_name, resolve_device
from app.pulse import Replica, beating
from app.quota import Quota
from app.schemas import Task
from app.seam import EngineSeam
from app.settings import Settings
from app.shared_metrics import SharedMetrics

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
    replica: Replica | None = None,
) -> FastAPI:
    """An app that serves the models of the settings.

    The port may be opened at once: the models load in the background and /startupz tells how far.

    Args:
        settings: what the operator decided.
        engine_factory: makes the engine of a model.
        on_fatal: called when a model cannot be loaded; the app never becomes ready then.
        replica: which of several the app is; None when it is the only one.

    Raises:
        ValueError: the settings ask for a device that is not there, or for no model.
    """
    device = resolve_device(settings.device)
    sources = model_sources(settings)
    if not sources:
        raise ValueError("there is no model to serve: classifier and segmenter are both none")
    names = model_names(sources)
    metrics = series(names.values(), replica)

    plan = Plan(
        device=device,
        engines={
            task: (names[task], partial(engine_factory, source, **options(settings, task, device)))
            for task, source in sources.items()
        },
        queue={
            "max_batch_size": settings.max_batch_size,
            "max_queue_size": settings.max_queue_size,
            "max_queue_delay_s": settings.max_queue_delay_ms / 1000,
            "decode": partial(
                decode,
                max_pixels=settings.max_image_pixels,
                scaled=settings.jpeg_decode == "scaled",
                hold=Budget(settings.max_decoded_pixels).hold,
            ),
        },
        limits=Limits(
            settings.max_body_bytes,
            settings.request_timeout_s,
            Quota(settings.max_body_bytes_in_flight),
        ),
    )

    def lifespan(app: FastAPI) -> AbstractAsyncContextManager[dict[str, Any]]:
        alone = running(plan, metrics, on_fatal)
        return alone if replica is None else beating(alone, replica, metrics)

    return assemble(lifespan, metrics)


def series(models: Iterable[str], replica: Replica | None) -> Metrics:
    """The series of an app with these models, summed with the other replicas' if there are any."""
    if replica is None:
        return Metrics(models)
    return SharedMetrics(models, replica.table, replica.directory)


def assemble(lifespan: Any, metrics: Metrics) -> FastAPI:
    """The routes, what surrounds them, and their description."""
    app = App(
        title="patchserve",
        version=version("patchserve"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in (routes.router, listing.router, health.router):
        app.router.routes.extend(router.routes)  # flat: an included router is searched twice
    metrics.start_routes(document(app)["paths"])
    app.middleware_stack = Edge(Dispatcher(app.router), metrics)  # in place of Starlette's own
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


def model_sources(settings: Settings) -> dict[Task, str]:
    """Where each task's checkpoint comes from, without the tasks that have none."""
    sources: dict[Task, str] = {"classify": settings.classifier, "segment": settings.segmenter}
    return {task: source for task, source in sources.items() if source != "none"}


def options(settings: Settings, task: Task, device: str) -> dict[str, Any]:
    """How the task's engine is made; an input size of 0 is what the checkpoint says."""
    sizes = {
        "classify": settings.classifier_input_size,
        "segment": settings.segmenter_input_size,
    }
    return {
        "task": task,
        "device": device,
        "dtype": settings.dtype,
        "input_size": sizes[task],
        "runtime": settings.runtime,
    }


def model_names(sources: Mapping[Task, str]) -> dict[Task, str]:
    """What each task's model is called; two checkpoints of one name get their task added."""
    names = {task: model_name(source, task) for task, source in sources.items()}
    if len(set(names.values())) < len(names):
        names = {task: f"{name}-{task}" for task, name in names.items()}
    return names
