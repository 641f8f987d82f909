"""Owns what every answer carries: a request id, a problem body on error, a count and a log line.

Knows nothing of the routes behind it.
"""

import logging
import re
import secrets
import time
from math import ceil
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import (
    ClientGone,
    Internal,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    ServiceError,
)
from app.metrics import Metrics

logger = logging.getLogger("app.access")

REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
UNMATCHED = "unmatched"  # the route label of every other path: a bounded set


class Edge:
    """ASGI middleware around everything; one object a request, no task, no copy of a body."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens behind."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        self._metrics.http_requests_in_flight.inc()
        try:
            await self._app(scope, receive, exchange.send)
        except ClientGone:
            exchange.status = ClientGone.status
        except Exception:
            logger.exception("unexpected error", extra={"request_id": exchange.request_id})
            await exchange.fail(
                Internal("an unexpected error; the log has it under the request id")
            )
        finally:
            self._metrics.http_requests_in_flight.dec()
            self._count(exchange)

    def _count(self, exchange: "Exchange") -> None:
        seconds = time.monotonic() - exchange.began
        route, method = exchange.route, exchange.method
        self._metrics.http_requests.labels(route, method, str(exchange.status)).inc()
        self._metrics.http_request_duration.labels(route).observe(seconds)
        logger.info(
            "%s %s %d %.1f ms",
            method,
            exchange.path,
            exchange.status,
            seconds * 1000,
            extra={"request_id": exchange.request_id},
        )


class Exchange:
    """One request and its answer, as the edge sees them."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.began = time.monotonic()
        self.path = quote(scope["path"])  # a decoded one could forge log lines
        self.status = ClientGone.status  # until an answer starts
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = self.request_id
        self._scope = scope
        self._send = send
        self._started = False

    @property
    def route(self) -> str:
        """The route's template; never the raw path, which anyone can make up."""
        return getattr(self._scope.get("route"), "path", UNMATCHED)

    @property
    def method(self) -> str:
        """The method, as a bounded set."""
        known = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}
        return self._scope["method"] if self._scope["method"] in known else "OTHER"

    async def send(self, message: Message) -> None:
        """Pass a message on, with the request id in its headers."""
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-Id"] = self.request_id
        await self._send(message)

    async def fail(self, error: ServiceError) -> None:
        """Answer with an error, unless an answer has begun."""
        if not self._started:
            response = problem_response(error, self.request_id)
            await response(self._scope, _nothing, self.send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def problem_response(error: ServiceError, request_id: str) -> Response:
    """The problem+json answer of an error."""
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(ceil(error.retry_after_s))
    return Response(
        to_json(error.problem(request_id)),
        status_code=error.status,
        headers=headers,
        media_type="application/problem+json",
    )


async def on_service_error(request: Request, error: Exception) -> Response:
    """Answer what the routes raised."""
    if isinstance(error, ClientGone) or not isinstance(error, ServiceError):
        raise error
    if isinstance(error, Internal):
        cause = error.__cause__
        logger.error("%s", error, exc_info=cause, extra={"request_id": request.state.request_id})
    return problem_response(error, request.state.request_id)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router raised: no such route, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    headers: dict[str, Any] = dict(error.headers or {})
    path, method = request.url.path, request.method
    problem: ServiceError
    if error.status_code == NotFound.status:
        problem = NotFound(f"there is no {path}")
    elif error.status_code == MethodNotAllowed.status:
        problem = MethodNotAllowed(f"{path} does not take {method}", headers=headers)
    else:
        problem = MalformedRequest(str(error.detail))
    return problem_response(problem, request.state.request_id)
