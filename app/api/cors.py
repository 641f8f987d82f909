"""Owns what browsers are told of the web pages that may ask: CORS, by Starlette's middleware.

Knows nothing of the routes behind it.
"""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import MalformedRequest

ASKED_WITH = ("Authorization", "X-API-Key", "X-Request-Id", "X-Request-Timeout-Ms")
TOLD = ("X-Request-Id", "Server-Timing", "Retry-After")


class Cors:
    """The rules, and the two places where they are applied.

    Starlette's middleware alone would stand outside the edge, where preflights are neither counted
    nor logged and get no request id, or inside, where problems are not marked.

    Args:
        origins: of the pages that may ask, or `*` alone.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = origins

    def _rules(self, app: ASGIApp) -> CORSMiddleware:
        return CORSMiddleware(
            app,
            allow_origins=self._origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=ASKED_WITH,
            expose_headers=TOLD,
        )

    def answering(self, app: ASGIApp) -> ASGIApp:
        """Around an app: answers preflights in its place; they have no key, and need none."""
        rules = self._rules(app)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if not is_preflight(scope):
                await app(scope, receive, send)
                return
            response = rules.preflight_response(Headers(scope=scope))
            if response.status_code != 200:
                raise MalformedRequest(bytes(response.body).decode())
            await response(scope, receive, send)

        return answer

    def marking(self, app: ASGIApp) -> ASGIApp:
        """Around an app: marks its answers for the pages that may read them."""
        rules = self._rules(app)

        async def mark(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or is_preflight(scope):
                await app(scope, receive, send)
                return
            headers = Headers(scope=scope)
            await rules.simple_response(scope, receive, send, request_headers=headers)

        return mark


def is_preflight(scope: Scope) -> bool:
    """Whether a browser asks what it may ask."""
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names
