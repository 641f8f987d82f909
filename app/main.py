"""The composition root: makes an app from the settings and connects all layers.

An ASGI server starts the service with the factory `app.main:application`. `patchserve serve` uses
its own server, and calls `create_app`.
"""

import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from fastapi import FastAPI

from app.api import application as web
from app.api.body import BytesInFlight
from app.api.inference import Limits
from app.api.routes.status import Service
from app.batching.lifespan import OnReady, ServingPlan, serve_models
from app.core.cores import core_count
from app.core.malloc import keep_freed_memory
from app.core.settings import Settings, split_commas
from app.core.shutdown import Shutdown
from app.core.types import Task
from app.engine.engine import TorchEngine
from app.engine.interface import InferenceEngine
from app.engine.placement import LoadOptions, load_options, model_name, resolve_device
from app.imaging.cost import decode_cost
from app.imaging.decode import Photo, decode, limit_pillow_pixels, silence_libtiff
from app.imaging.heif_plugins import enable_formats
from app.observability import logs
from app.observability.metrics import Metrics
from app.observability.traffic import RecentTraffic
from app.replicas.metrics import SharedMetrics
from app.replicas.reporter import Replica, reporting

State = Mapping[str, Any]
ServeOps = Callable[[FastAPI, State], AbstractAsyncContextManager[object]]

# settings of the server of `patchserve serve`; another ASGI server has its own
SERVER_SETTINGS = frozenset(
    (
        "host",
        "port",
        "ops_host",
        "ops_port",
        "workers",
        "max_connections",
        "max_header_bytes",
        "header_timeout_s",
        "upload_timeout_s",
        "min_upload_bytes_per_s",
        "min_download_bytes_per_s",
        "max_unsent_bytes",
        "trusted_proxies",
        "root_path",
        "lame_duck_s",
        "drain_timeout_s",
    )
)

# how long a thread may keep Python's lock while another one waits for it; for each image, a lane
# takes the lock some hundred times
SWITCH_INTERVAL_S = 2e-4

logger = logging.getLogger(__name__)


class EngineFactory(Protocol):
    """Makes the engine of one model; tests replace it by a fake."""

    def __call__(  # noqa: PLR0913  # the arguments of `TorchEngine`
        self,
        source: str,
        *,
        task: Task,
        device: str,
        dtype: str,
        input_size: int,
        runtime: Literal["torch", "openvino", "auto"],
        capture_s: float,
        gpu_share: float,
        load_options: LoadOptions,
    ) -> InferenceEngine:
        """Make an engine that has not loaded its model yet."""
        ...


def application() -> FastAPI:
    """Make the app from the environment, for `uvicorn --factory app.main:application`.

    Raises:
        ValueError, OSError: a setting is unknown or invalid, or the service cannot apply it.
    """
    settings = Settings.read()
    logs.configure(settings.log_level)
    if ignored := sorted(settings.model_fields_set & SERVER_SETTINGS):
        logger.warning("only patchserve serve uses these settings: %s", ", ".join(ignored))
    prepare_process(settings)
    return create_app(settings, on_fatal=partial(logger.error, "the service cannot continue: %s"))


def prepare_process(settings: Settings) -> None:
    """Set what applies to the whole process: thread switching, decoders and malloc.

    Raises:
        ValueError: the decoder of an image format is missing.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    prepare_decoders(settings)


def prepare_decoders(settings: Settings) -> None:
    """Set what applies to all images of the process: formats, limits and malloc.

    Raises:
        ValueError: the decoder of an image format is missing.
    """
    enable_formats(split_commas(settings.image_formats))
    limit_pillow_pixels(settings.max_image_pixels)
    silence_libtiff()
    keep_freed_memory()


def create_app(
    settings: Settings,
    engine_factory: EngineFactory = TorchEngine,
    on_fatal: Callable[[Exception], None] = lambda error: None,
    replica: Replica | None = None,
    shutdown: Shutdown | None = None,
    serve_ops: ServeOps | None = None,
    on_ready: OnReady = lambda deployments: None,
) -> FastAPI:
    """Make an app that serves the models of the settings.

    The server may open its port at once: the models load in the background, and /startupz shows the
    progress.

    Args:
        settings: of the service.
        engine_factory: makes the engine of a model.
        on_fatal: called with the error if a model cannot be loaded or the device is lost. The
            service is then neither ready nor alive, and refuses requests.
        replica: the replica that this process is, if there are several.
        shutdown: the shutdown state, if the server advances it.
        serve_ops: serves the probes and /metrics on another port; then the app does not have them.
        on_ready: called with the models when all of them can serve requests.

    Raises:
        ValueError: the settings name a device that does not exist, or no model.
    """
    names = model_names(model_sources(settings))
    metrics = make_metrics(names.values(), replica)
    gpu_share = replica.gpu_share if replica else 1.0
    plan = serving_plan(settings, names, engine_factory, gpu_share)
    state_of_shutdown = shutdown or Shutdown(settings.lame_duck_s, settings.drain_timeout_s)

    def fail(error: Exception) -> None:
        state_of_shutdown.fail()
        on_fatal(error)

    def lifespan(app: FastAPI) -> AbstractAsyncContextManager[State]:
        models = serve_models(plan, metrics, state_of_shutdown, fail, on_ready)
        whole = with_state(
            models,
            limits=request_limits(settings),
            service=service_of(settings),
            traffic=RecentTraffic(metrics.families),
        )
        if replica is not None:
            whole = reporting(whole, replica, metrics)
        if serve_ops is None:
            return whole
        return with_ops(whole, serve_ops, web.build_ops_app(metrics, state_of_shutdown))

    return web.build_app(
        lifespan,
        metrics,
        state_of_shutdown,
        keys=settings.keys,
        cors_origins=split_commas(settings.cors_origins),
        with_ops=serve_ops is None,
        page=playground_of(settings),
    )


def serving_plan(
    settings: Settings,
    names: Mapping[Task, str],
    engine_factory: EngineFactory,
    gpu_share: float,
) -> ServingPlan:
    """The device, the engines and the queue limits of the settings.

    Raises:
        ValueError: the settings name a device that does not exist, or no model.
    """
    device = resolve_device(settings.device)
    sources = model_sources(settings)
    if not sources:
        raise ValueError("there is no model to serve: classifier and segmenter are both none")
    usable = core_count()
    if settings.cores > usable:
        logger.warning(
            "--cores is %d, but the process may use %d: more are slower", settings.cores, usable
        )
    return ServingPlan(
        device=device,
        cores=settings.cores or usable,
        engines={
            task: (
                names[task],
                partial(
                    engine_factory,
                    source,
                    gpu_share=gpu_share,
                    **options(settings, task, device),
                ),
            )
            for task, source in sources.items()
        },
        max_decoded_pixels=settings.max_decoded_pixels,
        deployment_options={
            "max_batch_size": settings.max_batch_size,
            "max_queue_size": settings.max_queue_size,
            "max_queue_delay_s": settings.max_queue_delay_ms / 1000,
            "decode": make_decoder(settings),
            "decode_cost": partial(decode_cost, max_pixels=settings.max_image_pixels),
        },
    )


def request_limits(settings: Settings) -> Limits:
    """The limits of image requests."""
    return Limits(
        settings.max_body_bytes,
        settings.request_timeout_s,
        BytesInFlight(settings.max_body_bytes_in_flight),
        settings.share_by == "client",
    )


def make_decoder(settings: Settings) -> Callable[..., Photo]:
    """`app.imaging.decode.decode` with the formats and limits of the settings."""
    return partial(
        decode,
        formats=frozenset(split_commas(settings.image_formats.upper())),
        max_pixels=settings.max_image_pixels,
        scaled=settings.jpeg_decode == "scaled",
    )


def service_of(settings: Settings) -> Service:
    """What /status tells of the settings."""
    return Service(
        key_required=bool(settings.keys),
        max_image_pixels=settings.max_image_pixels,
        image_formats=split_commas(settings.image_formats),
    )


def playground_of(settings: Settings) -> web.Playground | None:
    """The page of the settings; None if there is none."""
    if not settings.playground:
        return None
    return web.Playground(Path(settings.samples) if settings.samples else None)


@asynccontextmanager
async def with_state(
    lifespan: AbstractAsyncContextManager[State], **more: object
) -> AsyncIterator[State]:
    """Add values to the state of a lifespan."""
    async with lifespan as state:
        yield {**state, **more}


@asynccontextmanager
async def with_ops(
    lifespan: AbstractAsyncContextManager[State], serve_ops: ServeOps, ops: FastAPI
) -> AsyncIterator[State]:
    """Serve the ops app during a lifespan, with the same state."""
    async with lifespan as state, serve_ops(ops, state):
        yield state


def make_metrics(models: Iterable[str], replica: Replica | None) -> Metrics:
    """The metrics of an app with these models; with several replicas they show the sums."""
    if replica is None:
        return Metrics(models)
    return SharedMetrics(models, replica.table, replica.directory)


def model_sources(settings: Settings) -> dict[Task, str]:
    """The source of each task's checkpoint, without the tasks that have none."""
    sources: dict[Task, str] = {"classify": settings.classifier, "segment": settings.segmenter}
    return {task: source for task, source in sources.items() if source != "none"}


def options(settings: Settings, task: Task, device: str) -> dict[str, Any]:
    """The arguments of the engine factory for a task."""
    sizes = {
        "classify": settings.classifier_input_size,
        "segment": settings.segmenter_input_size,
    }
    labels = {"classify": settings.classifier_labels, "segment": settings.segmenter_labels}
    arch = settings.arch if task == "classify" else ""
    return {
        "task": task,
        "device": device,
        "dtype": settings.dtype,
        "input_size": sizes[task],
        "runtime": settings.runtime,
        "capture_s": settings.graph_capture_timeout_s,
        "load_options": load_options(labels[task], arch, strict=settings.strict),
    }


def model_names(sources: Mapping[Task, str]) -> dict[Task, str]:
    """The name of each task's model; if two names are equal, the task is appended."""
    names = {task: model_name(source, task) for task, source in sources.items()}
    if len(set(names.values())) < len(names):
        names = {task: f"{name}-{task}" for task, name in names.items()}
    return names
