"""Hints for requests with a wrong path or method: which route the client may have meant."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from urllib.parse import quote

from starlette.routing import BaseRoute, Route

MAX_PATH = 200  # characters of a path, percent-encoded; longer ones get no hint
MAX_NAME = 40  # characters of the last part of a path that is compared with the routes
SIMILAR = 0.75  # of difflib's ratio: one or two letters of a route are wrong
# what other services call these routes; alone or at the end of a path
OTHER_NAMES = {
    "healthz": "/health",
    "healthcheck": "/health",
    "health-check": "/health",
    "ping": "/livez",
    "live": "/livez",
    "liveness": "/livez",
    "alive": "/livez",
    "ready": "/readyz",
    "readiness": "/readyz",
    "startup": "/startupz",
    "prometheus": "/metrics",
    "predict": "/classify",
    "infer": "/classify",
    "classification": "/classify",
    "segmentation": "/segment",
    "explanation": "/explain",
    "model": "/models",
    "swagger": "/docs",
    "redoc": "/docs",
    "api": "/docs",
    "swagger.json": "/openapi.json",
}
OPS_ROUTES = frozenset({"/health", "/livez", "/readyz", "/startupz", "/metrics"})


def hint_for_path(path: str, routes: Iterable[BaseRoute]) -> str | None:
    """The route that the client may have meant by an unknown path, as a question; None if none.

    Args:
        path: of the request, decoded.
        routes: of the app.
    """
    named = {route.path: route for route in routes if isinstance(route, Route)}
    bare = "/" + path.strip("/")
    if len(quote(bare)) > MAX_PATH:
        return None
    if bare != path:  # slashes at its end or start
        for route in named.values():
            if route.path_regex.match(bare):
                return f"did you mean {_method(route)} {quote(bare)}?"
    meant = _similar(bare.lower(), named)
    if meant is None:
        return None
    if meant in named:
        return f"did you mean {_method(named[meant])} {meant}?"
    elsewhere = meant in OPS_ROUTES and "/classify" in named
    return "probes and /metrics are on the port of --ops-port" if elsewhere else None


def _similar(path: str, named: Mapping[str, object]) -> str | None:
    """The known path that a path in lower case resembles, whether or not the app has it."""
    last = path.rpartition("/")[2]
    if len(last) > MAX_NAME:
        return None
    known = [each for each in {*named, *OPS_ROUTES} if "{" not in each and each != "/"]
    if f"/{last}" in known:  # behind a prefix such as /v1, or in other case
        return f"/{last}"
    if last in OTHER_NAMES:
        return OTHER_NAMES[last]
    close = get_close_matches(path, sorted(known), n=1, cutoff=SIMILAR) if path != "/" else []
    return close[0] if close else None


def hint_for_method(allowed: str) -> str:
    """Which method to use instead of the one that the route does not have.

    Args:
        allowed: the methods of the route, as in the `Allow` header.
    """
    return "send the image with POST" if "POST" in allowed else f"use {allowed}"


def _method(route: Route) -> str:
    return "POST" if "POST" in (route.methods or ()) else "GET"
