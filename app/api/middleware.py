"""The middleware around every request: request id, problem+json errors, metrics, access log."""

import asyncio
import logging
import random
import re
import time
from contextlib import suppress
from http import HTTPStatus
from math import ceil
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.route_hints import hint_for_method, hint_for_path
from app.batching.job import RequestContext
from app.core.errors import (
    ClientGone,
    Internal,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ServiceError,
)
from app.core.scope import CLIENT, REFUSED, Client
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics

logger = logging.getLogger("app.access")

REQUEST_ID = re.compile(rb"[\w.:-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
MAX_PATH_LENGTH = 200  # characters of a path in logs and error responses
POLLED = frozenset(("/status",))  # by open pages: a line every two seconds would hide the others
UNMATCHED = "unmatched"  # route label of unknown paths, so that label values stay bounded
UNEXPECTED = "an unexpected error; the log has it under the request id"


class RequestMiddleware:
    """ASGI middleware; it creates one object per request, and no task or copy of a body.

    Args:
        app: the application inside.
        metrics: get one count per response.
        shutdown: has the error for requests that the server cancels.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, shutdown: Shutdown) -> None:
        self._app = app
        self._metrics = metrics
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; every error becomes a response."""
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
        except asyncio.CancelledError:  # by the server, at the end of a shutdown
            await exchange.fail(self._shutdown.refusal or Internal("the request was cancelled"))
        except Exception as error:  # noqa: BLE001  # every error gets a response
            await exchange.fail(error)
        finally:
            self._metrics.requests_in_flight -= 1
            self._count(exchange)

    def _count(self, exchange: "Exchange") -> None:
        seconds = time.monotonic() - exchange.began
        route, method, status = exchange.route, exchange.method, exchange.status
        self._metrics.count_request(route, method, status, seconds)
        level = (
            logging.DEBUG if route in POLLED and status < HTTPStatus.BAD_REQUEST else logging.INFO
        )
        if not logger.isEnabledFor(level):
            return
        milliseconds = round(seconds * 1000, 1)
        fields = {
            "request_id": exchange.request_id,
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": milliseconds,
            **exchange.log_fields(),
        }
        message = (method, exchange.path, status, milliseconds)
        logger.log(level, "%s %s %d %s ms", *message, extra=fields)


class Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.began = time.monotonic()
        self.status = ClientGone.status  # until a response starts
        self.request_id = request_id(scope)
        self._state = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id
        self._code: str | None = None
        self._delay_s = 0.0  # of a refusal
        self._scope = scope
        self._send = send
        self._started = False

    @property
    def path(self) -> str:
        """The path, percent-encoded and cut: a decoded path could forge log lines."""
        path = quote(self._scope["path"])
        return path if len(path) <= MAX_PATH_LENGTH else f"{path[:MAX_PATH_LENGTH]}..."

    @property
    def route(self) -> str:
        """The template of the route, never the path itself: label values must stay bounded."""
        return getattr(self._scope.get("route"), "path", UNMATCHED)

    @property
    def method(self) -> str:
        """The method, or OTHER: label values must stay bounded."""
        method: str = self._scope["method"]
        return method if method in METHODS else "OTHER"

    def log_fields(self) -> dict[str, Any]:
        """Fields of the log line besides the status.

        `stages_ms` and `batch_size` of an image; after an error its `code`, the `cause` if the
        client did not cause it, as `place` the stage that the image was in, and as `delay_ms` the
        delay of a refusal.
        """
        context: RequestContext | None = self._state.get("context")
        fields = {} if context is None else context.log_fields()
        if context is not None and self.status >= ClientGone.status:
            fields["place"] = context.stage
        if self._code is not None:
            fields["code"] = self._code
        if self._delay_s:
            fields["delay_ms"] = round(1000 * self._delay_s)
        if self.status >= Internal.status and "cause" in self._state:
            fields["cause"] = self._state["cause"]
        return fields

    async def send(self, message: Message) -> None:
        """Forward a message to the server; add the request id to the headers."""
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id.encode()),
            ]
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Respond with an error, unless a response has started."""
        problem = self._problem(error)
        if isinstance(problem, Overloaded) and problem.delay_s:
            error.__traceback__ = None  # its frames hold the body
            if not await self._wait(problem.delay_s):
                return
        self._code = problem.code
        self._state.setdefault("cause", problem.detail)
        if not self._started:
            response = problem_response(problem, self.request_id)
            await response(self._scope, _no_body, self.send)

    async def _wait(self, delay_s: float) -> bool:
        """Wait before a refusal; False if the client disconnects."""
        self._delay_s = delay_s
        with suppress(asyncio.CancelledError):  # by the server, at the end of a shutdown
            await asyncio.sleep(delay_s)
        client: Client | None = self._scope.get(CLIENT)
        return client is None or not client.gone

    def _problem(self, error: Exception) -> ServiceError:
        """The error for the client; a bug is logged with its traceback."""
        fields = {"request_id": self.request_id}
        if isinstance(error, HTTPException):
            return self._router_error(error)
        if isinstance(error, Internal):
            logger.error("%s", error, exc_info=error.__cause__, extra=fields)
        elif not isinstance(error, ServiceError):
            logger.error("unexpected error", exc_info=error, extra=fields)
            return Internal(UNEXPECTED)
        return error

    def _router_error(self, error: HTTPException) -> ServiceError:
        if error.status_code == NotFound.status:
            hint = hint_for_path(self._scope["path"], self._scope["app"].router.routes)
            detail = f"there is no route {self.path}"
            return NotFound(f"{detail}; {hint}" if hint else detail)
        if error.status_code == MethodNotAllowed.status:
            headers = dict(error.headers or {})
            hint = hint_for_method(headers.get("Allow", ""))
            detail = f"{self.path} does not support {self.method}; {hint}"
            return MethodNotAllowed(detail, headers=headers)
        return MalformedRequest(str(error.detail))


def request_id(scope: Scope) -> str:
    """The client's request id if it is safe to log, otherwise a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{random.getrandbits(64):016x}"


async def _no_body() -> Message:
    return {"type": "http.disconnect"}


def problem_response(error: ServiceError, request_id: str) -> Response:
    """The problem+json response of an error."""
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(ceil(round(error.retry_after_s * 1000) / 1000))
    return Response(
        to_json(error.problem(request_id)),
        status_code=error.status,
        headers=headers,
        media_type="application/problem+json",
    )


def internal_error(request: Request, error: Exception) -> Response:
    """The response if middleware that was added to the app fails outside of ours."""
    known_id = request.scope["state"].get("request_id") or request_id(request.scope)
    logger.error("unexpected error", exc_info=error, extra={"request_id": known_id})
    response = problem_response(Internal(UNEXPECTED), known_id)
    response.headers["x-request-id"] = known_id
    return response
