"""Owns the composition: settings become an app with its routes and what runs behind them.

Knows nothing of sockets or signals; whoever serves the app does.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal, Protocol

from fastapi import FastAPI

from app.api import application
from app.api.body import BytesInFlight
from app.api.inference import Limits
from app.batching.lifespan import ServingPlan, serve_models
from app.core.settings import Settings, listed
from app.core.shutdown import Shutdown
from app.core.types import Task
from app.engine.engine import TorchEngine
from app.engine.interface import InferenceEngine
from app.engine.placement import model_name, resolve_device
from app.imaging.decode import Photo, decode
from app.imaging.pixel_budget import WeightedSemaphore
from app.observability.metrics import Metrics
from app.replicas.metrics import SharedMetrics
from app.replicas.reporter import Replica, reporting

State = Mapping[str, Any]
ServeOps = Callable[[FastAPI, State], AbstractAsyncContextManager[object]]


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
    ) -> InferenceEngine:
        """An engine that has not loaded anything yet."""
        ...


def create_app(
    settings: Settings,
    engine_factory: EngineFactory = TorchEngine,
    on_fatal: Callable[[Exception], None] = lambda error: None,
    replica: Replica | None = None,
    shutdown: Shutdown | None = None,
    serve_ops: ServeOps | None = None,
) -> FastAPI:
    """An app that serves the models of the settings.

    The port may be opened at once: the models load in the background and /startupz tells how far.

    Args:
        settings: what the operator decided.
        engine_factory: makes the engine of a model.
        on_fatal: called with why the service cannot go on, be it that a model cannot be loaded or
            that a device is lost; by then it is neither ready nor alive, and takes no work.
        replica: which of several the app is; None when it is the only one.
        shutdown: how far the service is on its way out; None when nobody moves it on.
        serve_ops: serves the probes and /metrics somewhere else; they are not in the app then.

    Raises:
        ValueError: the settings ask for a device that is not there, or for no model.
    """
    names = model_names(model_sources(settings))
    metrics = series(names.values(), replica)
    plan = plan_of(settings, names, engine_factory)
    leaving = shutdown or Shutdown(settings.lame_duck_s, settings.drain_timeout_s)

    def fail(error: Exception) -> None:
        leaving.fail()
        on_fatal(error)

    def lifespan(app: FastAPI) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        whole = with_limits(serve_models(plan, metrics, leaving, fail), limits_of(settings))
        if replica is not None:
            whole = reporting(whole, replica, metrics)
        if serve_ops is None:
            return whole
        return beside(whole, serve_ops, application.build_ops_app(metrics, leaving))

    return application.build_app(
        lifespan,
        metrics,
        leaving,
        keys=settings.keys,
        cors_origins=listed(settings.cors_origins),
        with_ops=serve_ops is None,
    )


def plan_of(
    settings: Settings, names: Mapping[Task, str], engine_factory: EngineFactory
) -> ServingPlan:
    """What shall run by the settings.

    Raises:
        ValueError: the settings ask for a device that is not there, or for no model.
    """
    device = resolve_device(settings.device)
    sources = model_sources(settings)
    if not sources:
        raise ValueError("there is no model to serve: classifier and segmenter are both none")
    return ServingPlan(
        device=device,
        engines={
            task: (names[task], partial(engine_factory, source, **options(settings, task, device)))
            for task, source in sources.items()
        },
        queue={
            "max_batch_size": settings.max_batch_size,
            "max_queue_size": settings.max_queue_size,
            "max_queue_delay_s": settings.max_queue_delay_ms / 1000,
            "decode": decoder_of(settings),
        },
    )


def limits_of(settings: Settings) -> Limits:
    """What a request may cost by the settings."""
    return Limits(
        settings.max_body_bytes,
        settings.request_timeout_s,
        BytesInFlight(settings.max_body_bytes_in_flight),
    )


def decoder_of(settings: Settings) -> Callable[..., Photo]:
    """How images are decoded: `app.imaging.decode.decode`, within the limits of the settings."""
    return partial(
        decode,
        formats=frozenset(listed(settings.image_formats.upper())),
        max_pixels=settings.max_image_pixels,
        scaled=settings.jpeg_decode == "scaled",
        hold=WeightedSemaphore(settings.max_decoded_pixels).hold,
    )


@asynccontextmanager
async def with_limits(
    lifespan: AbstractAsyncContextManager[State], limits: Limits
) -> AsyncIterator[State]:
    """The lifespan, whose state also has the limits of a request."""
    async with lifespan as state:
        yield {**state, "limits": limits}


@asynccontextmanager
async def beside(
    lifespan: AbstractAsyncContextManager[State], serve_ops: ServeOps, ops: FastAPI
) -> AsyncIterator[State]:
    """A lifespan during which another app is served, with the same state."""
    async with lifespan as state, serve_ops(ops, state):
        yield state


def series(models: Iterable[str], replica: Replica | None) -> Metrics:
    """The series of an app with these models, summed with the other replicas' if there are any."""
    if replica is None:
        return Metrics(models)
    return SharedMetrics(models, replica.table, replica.directory)


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
