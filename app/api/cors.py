"""CORS: which web pages may call the service from a browser, by Starlette's middleware."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import MalformedRequest

REQUEST_HEADERS = ("Authorization", "X-API-Key", "X-Request-Id", "X-Request-Timeout-Ms")
EXPOSED_HEADERS = ("X-Request-Id", "Server-Timing", "Retry-After")


class Cors:
    """The CORS rules, as two layers around and inside the request middleware.

    A single layer of Starlette's middleware is not enough. Outside the request middleware,
    preflight requests would get no count, log line or request id. Inside, error responses would get
    no CORS headers.

    Args:
        origins: the origins of the web pages that may send requests, or `*` alone.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = origins

    def _rules(self, app: ASGIApp) -> CORSMiddleware:
        return CORSMiddleware(
            app,
            allow_origins=self._origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=REQUEST_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )

    def respond_to_preflights(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app: respond to preflight requests, which have no API key and need none."""
        rules = self._rules(app)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            if not is_preflight(scope):
                await app(scope, receive, send)
                return
            response = rules.preflight_response(Headers(scope=scope))
            if response.status_code != 200:
                raise MalformedRequest(bytes(response.body).decode())
            await response(scope, receive, send)

        return respond

    def add_headers(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app: add the CORS headers to its responses."""
        rules = self._rules(app)

        async def add(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or is_preflight(scope):
                await app(scope, receive, send)
                return
            headers = Headers(scope=scope)
            await rules.simple_response(scope, receive, send, request_headers=headers)

        return add


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks with this request which requests it may send."""
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names
