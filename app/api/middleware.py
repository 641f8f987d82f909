"""Owns what every answer carries: a request id, a problem body on error, a count and a log line.

Knows nothing of the routes behind it.
"""

import asyncio
import logging
import random
import re
import time
from math import ceil
from typing import Any
from urllib.parse import quote

from fastapi import Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching.job import RequestContext
from app.core.errors import (
    ClientGone,
    Internal,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    ServiceError,
)
from app.core.scope import REFUSED
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics

logger = logging.getLogger("app.access")

REQUEST_ID = re.compile(rb"[\w.:-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
UNMATCHED = "unmatched"  # the route label of every other path: a bounded set


class RequestMiddleware:
    """ASGI application around another; one object a request, no task, no copy of a body."""

    def __init__(self, app: ASGIApp, metrics: Metrics, shutdown: Shutdown) -> None:
        self._app = app
        self._metrics = metrics
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens behind."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, send)
        self._metrics.requests_in_flight += 1
        try:
            if REFUSED in scope:
                raise scope[REFUSED]
            await self._app(scope, receive, exchange.send)
        except ClientGone:
            exchange.status = ClientGone.status
        except asyncio.CancelledError:  # the server cannot wait for it
            await exchange.fail(self._shutdown.refusal or Internal("the request was cancelled"))
        except Exception as error:  # noqa: BLE001  # every one has an answer
            await exchange.fail(error)
        finally:
            self._metrics.requests_in_flight -= 1
            self._count(exchange)

    def _count(self, exchange: "Exchange") -> None:
        seconds = time.monotonic() - exchange.began
        route, method, status = exchange.route, exchange.method, exchange.status
        self._metrics.count_request(route, method, status, seconds)
        if not logger.isEnabledFor(logging.INFO):
            return
        milliseconds = round(seconds * 1000, 1)
        about = {
            "request_id": exchange.request_id,
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": milliseconds,
            **exchange.log_fields(),
        }
        told = (method, exchange.path, status, milliseconds)
        logger.info("%s %s %d %s ms", *told, extra=about)


class Exchange:
    """One request and its answer, as the edge sees them."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.began = time.monotonic()
        self.status = ClientGone.status  # until an answer starts
        self.request_id = request_id(scope)
        self._state = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id
        self._code: str | None = None
        self._scope = scope
        self._send = send
        self._started = False

    @property
    def path(self) -> str:
        """The path in ASCII: a decoded one could forge log lines."""
        return quote(self._scope["path"])

    @property
    def route(self) -> str:
        """The route's template; never the raw path, which anyone can make up."""
        return getattr(self._scope.get("route"), "path", UNMATCHED)

    @property
    def method(self) -> str:
        """The method, as a bounded set."""
        method: str = self._scope["method"]
        return method if method in METHODS else "OTHER"

    def log_fields(self) -> dict[str, Any]:
        """What the log tells beside the status: where the time went, and what went wrong.

        `code` is the problem's; `cause` says why, where it is not the caller's doing, and `stage`
        where the image was then.
        """
        context: RequestContext | None = self._state.get("context")
        story = {} if context is None else context.log_fields()
        if context is not None and self.status >= ClientGone.status:
            story["place"] = context.stage
        if self._code is not None:
            story["code"] = self._code
        if self.status >= Internal.status and "cause" in self._state:
            story["cause"] = self._state["cause"]
        return story

    async def send(self, message: Message) -> None:
        """Pass a message on, with the request id in its headers."""
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
            ]
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Answer with an error, unless an answer has begun."""
        problem = self._problem(error)
        self._code = problem.code
        self._state.setdefault("cause", problem.detail)
        if not self._started:
            response = problem_response(problem, self.request_id)
            await response(self._scope, _nothing, self.send)

    def _problem(self, error: Exception) -> ServiceError:
        """What the caller is told of an error; the log is told the rest of what is a bug."""
        told = {"request_id": self.request_id}
        if isinstance(error, HTTPException):
            return self._of_router(error)
        if isinstance(error, Internal):
            logger.error("%s", error, exc_info=error.__cause__, extra=told)
        elif not isinstance(error, ServiceError):
            logger.error("unexpected error", exc_info=error, extra=told)
            return Internal("an unexpected error; the log has it under the request id")
        return error

    def _of_router(self, error: HTTPException) -> ServiceError:
        """No such route, or no such method."""
        if error.status_code == NotFound.status:
            return NotFound(f"there is no {self.path}")
        if error.status_code == MethodNotAllowed.status:
            detail = f"{self.path} does not take {self.method}"
            return MethodNotAllowed(detail, headers=error.headers)
        return MalformedRequest(str(error.detail))


def request_id(scope: Scope) -> str:
    """The caller's, where it is fit to be logged, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{random.getrandbits(64):016x}"


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def problem_response(error: ServiceError, request_id: str) -> Response:
    """The problem+json answer of an error."""
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(ceil(round(error.retry_after_s * 1000) / 1000))
    return Response(
        to_json(error.problem(request_id)),
        status_code=error.status,
        headers=headers,
        media_type="application/problem+json",
    )
