"""The app class, and the dispatch of requests to endpoints without FastAPI's dependencies."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.middleware import internal_error


class App(FastAPI):
    """A FastAPI application that passes each request directly to `handler`.

    FastAPI's own `__call__` would check for each request whether its telemetry is enabled. The
    usual extensions work until the first request: `add_middleware`, and OpenTelemetry's
    instrumentor, which replaces `build_middleware_stack`. What they add wraps the handler, so it
    also sees the handler's error responses.

    Attributes:
        handler: responds to every request, also if an endpoint fails. `build_app` sets it.
    """

    handler: ASGIApp
    _entry: ASGIApp | None = None  # the app that gets each request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or run the lifespan."""
        if scope["type"] != "http":
            scope.setdefault("state", {})  # Starlette's lifespan refuses a server without it
            await super().__call__(scope, receive, send)
            return
        if self._entry is None:
            self.middleware_stack = self.build_middleware_stack()
        assert self._entry is not None  # noqa: S101  # the assignment has set it
        scope["app"] = self
        if root_path := scope.get("root_path"):
            scope["path"] = _below(root_path, scope["path"])
        if "state" not in scope:  # the server does not pass the lifespan's state to requests
            scope["state"] = {name: self.state[name] for name in self.state}
        await self._entry(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the handler in the added middleware.

        The outermost layer is Starlette's for uncaught errors, as OpenTelemetry's instrumentor
        requires.
        """
        stack = self.handler
        for middleware, args, kwargs in reversed(self.user_middleware):
            stack = middleware(stack, *args, **kwargs)
        return ServerErrorMiddleware(stack, handler=internal_error)

    @property
    def middleware_stack(self) -> ASGIApp | None:
        """The stack that Starlette or `__call__` has built; None before the first use."""
        return self._stack

    @middleware_stack.setter
    def middleware_stack(self, stack: ASGIApp | None) -> None:
        self._stack = stack
        self._entry = stack
        if isinstance(stack, ServerErrorMiddleware) and stack.app is self.handler:
            self._entry = self.handler  # nothing was added, and the handler catches its own errors


def _below(prefix: str, path: str) -> str:
    """A path without the prefix: proxies and servers may remove it or not."""
    if path == prefix or path.startswith(f"{prefix}/"):
        return path[len(prefix) :] or "/"
    return path


class Endpoint(APIRoute):
    """A documented route that calls its function directly: a Request in, a Response out.

    FastAPI's own handler would resolve dependencies, and validate and serialize the result. That is
    a third of the cost of a request, and our functions need none of it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function itself."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


class Dispatcher:
    """ASGI application that looks up paths without parameters; the router handles all others.

    Args:
        router: has all routes.
        check: raises an error to refuse a request before its body is read.
    """

    def __init__(self, router: Router, check: Callable[[Scope], None] | None = None) -> None:
        self._router = router
        self._check = check
        self._endpoints: dict[tuple[Any, Any], Endpoint] = {
            (method, route.path): route
            for route in router.routes
            if isinstance(route, Endpoint) and not route.param_convertors
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request; errors of the check, endpoint or router are raised."""
        route = self._endpoints.get((scope.get("method"), scope.get("path")))
        if route is not None:
            scope["route"] = route  # set before the check, so that a refusal is counted for it
        if self._check is not None and scope["type"] == "http":
            self._check(scope)
        if route is None:
            await self._route(scope, receive, send)
            return
        response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond by the router, which also removes the prefix from the path.

        Of /prefix/prefix/name it would find another route than the check has allowed.
        """
        prefix = scope.get("root_path")
        if not prefix:
            await self._router(scope, receive, send)
            return
        path = scope["path"]
        scope["path"] = prefix + path
        try:
            await self._router(scope, receive, send)
        finally:
            scope["path"] = path
