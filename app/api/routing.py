"""Owns how a request finds its endpoint, and that nothing stands between the two.

Knows nothing of what the endpoints do, nor of what becomes of their errors.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Router
from starlette.types import Receive, Scope, Send


class App(FastAPI):
    """FastAPI's application, whose requests go to its stack at once.

    FastAPI's own call would ask for each of them whether its telemetry is on; we count ourselves.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] != "http" or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)


class Endpoint(APIRoute):
    """A documented route whose function is called as it is: a Request in, a Response out.

    FastAPI's own handler would solve dependencies, and validate and serialize what comes back, in
    two stacks of contexts: a third of what a request costs, for functions that need none of it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


class Dispatcher:
    """ASGI application: a path without parameters is looked up, any other goes by the router.

    Args:
        router: with every route there will be.
        guard: raises what refuses a request, before anything of its body is read.
    """

    def __init__(self, router: Router, guard: Callable[[Scope], None] | None = None) -> None:
        self._router = router
        self._guard = guard
        self._endpoints: dict[tuple[Any, Any], Endpoint] = {
            (method, route.path): route
            for route in router.routes
            if isinstance(route, Endpoint) and not route.param_convertors
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or raise what its endpoint or the router raised."""
        route = self._endpoints.get((scope.get("method"), scope.get("path")))
        if route is not None:
            scope["route"] = route  # a refusal is counted there, too
        if self._guard is not None and scope["type"] == "http":
            self._guard(scope)
        if route is None:
            await self._router(scope, receive, send)
            return
        response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)
