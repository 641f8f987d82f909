"""Owns how the web application is put together: its routes, what surrounds them, its description.

Knows nothing of what the routes need to answer, nor of settings.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Scope

from app.api.cors import Cors
from app.api.middleware import RequestMiddleware
from app.api.openapi import component_schemas, secured
from app.api.routes import health, images, models
from app.api.routing import App, Dispatcher
from app.core.api_keys import Keyring
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics

DESCRIPTION = "Labels and masks of images, from a ViT classifier and a SegFormer segmenter."
# what orchestrators, Prometheus and browsers ask, which have no key; it tells nothing of any image
OPEN = frozenset(
    (
        "/livez",
        "/readyz",
        "/startupz",
        "/metrics",
        "/docs",
        "/docs/oauth2-redirect",
        "/openapi.json",
    )
)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Mapping[str, Any]]]


def build_app(
    lifespan: Lifespan,
    metrics: Metrics,
    shutdown: Shutdown,
    *,
    keys: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    with_ops: bool = True,
) -> FastAPI:
    """The app of the service.

    Args:
        lifespan: gives the state that the routes find in each request.
        metrics: where answers are counted.
        shutdown: how far the service is on its way out.
        keys: without one of them a request is refused, unless what it asks for is `OPEN`.
        cors_origins: of the web pages that may ask, or `*` alone.
        with_ops: whether the probes and /metrics are among the routes.
    """
    app = App(
        title="patchserve",
        version=version("patchserve"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add(app, images.router, models.router, *([health.router] if with_ops else []))
    described = document(app, guarded=bool(keys))
    metrics.start_routes(described["paths"])
    stack: ASGIApp = Dispatcher(app.router, api_key_check(keys))
    cors = Cors(cors_origins) if cors_origins else None
    if cors is not None:
        stack = cors.answering(stack)
    stack = RequestMiddleware(stack, metrics, shutdown)
    if cors is not None:
        stack = cors.marking(stack)  # outside the edge, whose problems are marked, too
    app.middleware_stack = stack  # in place of Starlette's own
    app.openapi = lambda: described  # type: ignore[method-assign]  # FastAPI's way to extend it
    return app


def build_ops_app(metrics: Metrics, shutdown: Shutdown) -> FastAPI:
    """The app of the probes and /metrics alone; whoever serves it passes the service's state."""
    app = App(openapi_url=None, redirect_slashes=False)
    _add(app, health.router)
    metrics.start_routes(route.path for route in health.router.routes if hasattr(route, "path"))
    app.middleware_stack = RequestMiddleware(Dispatcher(app.router), metrics, shutdown)
    return app


def api_key_check(keys: Sequence[str]) -> Callable[[Scope], None] | None:
    """What refuses requests that have none of the keys; None without keys."""
    if not keys:
        return None
    keyring = Keyring(keys)

    def refuse_stranger(scope: Scope) -> None:
        if scope["path"] not in OPEN:
            keyring.refuse_stranger(scope["headers"])

    return refuse_stranger


def document(app: FastAPI, *, guarded: bool = False) -> dict[str, Any]:
    """The OpenAPI document, with the schemas that the operations refer to."""
    described = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    described["components"] = {"schemas": component_schemas()}
    return secured(described, OPEN) if guarded else described


def _add(app: FastAPI, *routers: APIRouter) -> None:
    for router in routers:
        app.router.routes.extend(router.routes)  # flat: an included router is searched twice
