"""Builds the FastAPI app: routes, order of the middleware, API keys, and the OpenAPI document."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Scope

from app.api.cors import Cors
from app.api.middleware import RequestMiddleware
from app.api.openapi import TAGS, add_security, component_schemas
from app.api.routes import docs, health, images, models, playground, status
from app.api.routing import App, Dispatcher
from app.core.api_keys import Keyring
from app.core.scope import API_KEY
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics

DESCRIPTION = "Labels and masks of images, from a ViT classifier and a SegFormer segmenter."
# paths that need no API key: orchestrators, Prometheus and browsers have none
PATHS_WITHOUT_KEY = health.PROBES | {"/", "/docs", "/openapi.json", "/status"}
FOLDERS_WITHOUT_KEY = ("/docs/", "/playground/")

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]


@dataclass(frozen=True)
class Playground:
    """The page to try the models, and /status, from which it shows the state of the service.

    Attributes:
        samples: folder of the sample images; None: the bundled scenes.
    """

    samples: Path | None = None


def build_app(
    lifespan: Lifespan,
    metrics: Metrics,
    shutdown: Shutdown,
    *,
    keys: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    with_ops: bool = True,
    page: Playground | None = None,
) -> FastAPI:
    """Build the app of the service.

    Args:
        lifespan: yields the state that the routes need. It becomes the state of each request, and
            also `app.state`, for servers that do not pass the state on.
        metrics: get one count per response.
        shutdown: the shutdown state of the service.
        keys: the API keys; without any, requests need no key.
        cors_origins: origins of web pages that may send requests, or `*` alone.
        with_ops: whether the app has the routes of the probes and /metrics.
        page: the page; None: there is none.
    """
    app = App(
        docs_url=None,
        title="patchserve",
        version=version("patchserve"),
        description=DESCRIPTION,
        lifespan=_with_app_state(lifespan),
        redoc_url=None,
        redirect_slashes=False,
    )
    _add(app, images.router, models.router, docs.make_router(), *_page_routers(page))
    if with_ops:
        _add(app, health.router)
    described = document(app, guarded=bool(keys))
    metrics.start_routes(described["paths"])
    app.openapi = lambda: described  # type: ignore[method-assign]  # FastAPI's way to extend it
    stack: ASGIApp = Dispatcher(app.router, api_key_check(keys))
    cors = Cors(cors_origins) if cors_origins else None
    if cors is not None:
        stack = cors.respond_to_preflights(stack)
    stack = RequestMiddleware(stack, metrics, shutdown)
    if cors is not None:
        stack = cors.add_headers(stack)  # outside, so that error responses get the headers too
    app.handler = stack
    return app


def build_ops_app(metrics: Metrics, shutdown: Shutdown) -> FastAPI:
    """Build the app of the probes and /metrics; its server passes the state of the service."""
    app = App(openapi_url=None, redirect_slashes=False)
    _add(app, health.router)
    metrics.start_routes(route.path for route in health.router.routes if hasattr(route, "path"))
    app.handler = RequestMiddleware(Dispatcher(app.router), metrics, shutdown)
    return app


def api_key_check(keys: Sequence[str]) -> Callable[[Scope], None] | None:
    """A function that refuses requests without one of the keys; None if there are no keys."""
    if not keys:
        return None
    keyring = Keyring(keys)

    def check(scope: Scope) -> None:
        path = scope["path"]
        if path not in PATHS_WITHOUT_KEY and not path.startswith(FOLDERS_WITHOUT_KEY):
            scope[API_KEY] = keyring.authenticate(scope["headers"])

    return check


def document(app: FastAPI, *, guarded: bool = False) -> dict[str, Any]:
    """The OpenAPI document with all schemas; `guarded` adds the API keys."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=TAGS,
    )
    described["components"] = {"schemas": component_schemas()}
    return add_security(described, PATHS_WITHOUT_KEY) if guarded else described


def _with_app_state(lifespan: Lifespan) -> Lifespan:
    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with lifespan(app) as state:
            for name, value in state.items():
                app.state[name] = value
            yield state

    return run


def _page_routers(page: Playground | None) -> list[APIRouter]:
    if page is None:
        return [playground.make_router(with_page=False)]
    return [playground.make_router(page.samples), status.router]


def _add(app: FastAPI, *routers: APIRouter) -> None:
    for router in routers:
        app.router.routes.extend(router.routes)  # flat: an included router is searched twice
