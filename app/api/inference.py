"""The common path of all image requests: checks, body, deadline, disconnect, metrics, response."""

import asyncio
import time
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Hashable,
    Mapping,
    MutableMapping,
    Sequence,
)
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import Request, Response

from app.api import params
from app.api.body import BytesInFlight, ImageBody, Reservation, read_image
from app.api.params import Headers
from app.batching.deployment import Deployment
from app.batching.job import Operation, RequestContext
from app.core.errors import (
    ClientGone,
    DeadlineExceeded,
    ModelNotLoaded,
    Overloaded,
    ServiceError,
)
from app.core.scope import Client, client_of, identity_of
from app.core.shutdown import Shutdown
from app.core.types import Task
from app.observability.metrics import Metrics

Deployments = Mapping[Task, Deployment]
Parameters = Mapping[str, str]  # from the query and the body, by name
MakeOperation = Callable[[Parameters, Deployment], Operation]
Value = TypeVar("Value")
State = MutableMapping[str, Any]  # the lifespan's state, and entries of this request


@dataclass(frozen=True)
class Limits:
    """Limits of image requests.

    Attributes:
        max_body_bytes: of one body.
        request_timeout_s: from the last body byte to the response, in seconds.
        bytes_in_flight: body bytes of all requests together.
        share_by_client: whether clients share the device equally.
    """

    max_body_bytes: int
    request_timeout_s: float
    bytes_in_flight: BytesInFlight
    share_by_client: bool

    def client_of(self, request: Request) -> Hashable:
        """The client whose share a request uses; None if clients do not share."""
        return identity_of(request.scope) if self.share_by_client else None


async def handle(
    request: Request,
    headers: Headers,
    task: Task,
    names: Collection[str],
    make_operation: MakeOperation,
) -> Response:
    """Read the image of a request, run the operation before the deadline, and count the outcome.

    The parameters of the query are checked before the body is read, and again together with those
    in the body.

    Args:
        request: has the image in its body.
        headers: of the request.
        task: chooses the model.
        names: of the parameters.
        make_operation: makes the operation for that model; InvalidParameter for a wrong value.

    Raises:
        ServiceError: the request was refused or has failed.
    """
    state: State = request.scope["state"]
    deployments: Deployments = state["deployments"]
    deployment = deployments.get(task)
    if deployment is None:
        raise ModelNotLoaded(f"this service has no model to {task}")
    metrics: Metrics = state["metrics"]
    limits: Limits = state["limits"]
    outcome = "internal"
    parse = partial(_parse, request, names, make_operation, deployment)
    try:
        with limits.bytes_in_flight.reserve(limits.client_of(request)) as reservation:
            response = await _infer(request, headers, deployment, parse, reservation)
        outcome = "ok"
    except ServiceError as error:
        outcome = error.code
        raise
    except asyncio.CancelledError:  # by the server; the request middleware responds
        shutdown: Shutdown = state["shutdown"]
        outcome = shutdown.refusal.code if shutdown.refusal else outcome
        raise
    finally:
        metrics.buffer.record(1, metrics.images, deployment.name, outcome)
    return response


def _parse(
    request: Request,
    names: Collection[str],
    make_operation: MakeOperation,
    deployment: Deployment,
    more: Sequence[tuple[str, str]] = (),
) -> Operation:
    """The operation that the query and `more` parameters describe."""
    items = request.query_params.multi_items() if request.scope["query_string"] else []
    return make_operation(params.checked([*items, *more], names), deployment)


async def _infer(
    request: Request,
    headers: Headers,
    deployment: Deployment,
    parse: Callable[..., Operation],
    reservation: Reservation,
) -> Response:
    state: State = request.scope["state"]
    limits: Limits = state["limits"]
    metrics: Metrics = state["metrics"]
    timeout_s = params.timeout_s(headers, limits.request_timeout_s)
    _refuse_draining(state, deployment)
    deployment.refuse_unready()  # before the upload, so that the client need not send the body
    operation = parse()
    began = time.monotonic()
    data, more = await _read(request, headers, deployment, reservation)
    operation = parse(more) if more else operation
    state["context"] = context = RequestContext(  # the log line needs it, too
        asyncio.get_running_loop().time() + timeout_s,
        {"read": time.monotonic() - began},
        client=reservation.client,
    )
    try:
        client = client_of(request.scope, request.receive)
        work = deployment.infer(data, context, operation)
        body = await run_until_disconnect(context.deadline, client, work)
    except (TimeoutError, DeadlineExceeded):
        metrics.deadline_missed.labels(deployment.name, context.stage).inc()
        raise DeadlineExceeded(f"not done within {timeout_s:g} s") from None
    except ClientGone:
        metrics.cancelled.labels(deployment.name, context.stage).inc()
        raise
    metrics.observe_stages(deployment.name, context.stages)
    return _response(body, operation.media_type, context)


def _response(body: bytes, media_type: str, context: RequestContext) -> Response:
    response = Response(body, media_type=media_type)
    # Response(headers=...) would iterate over the headers three times
    response.raw_headers.append((b"server-timing", context.server_timing().encode()))
    return response


def _refuse_draining(state: State, deployment: Deployment) -> None:
    shutdown: Shutdown = state["shutdown"]
    refusal = shutdown.refusal
    if refusal is not None:
        metrics: Metrics = state["metrics"]
        metrics.rejections.labels(deployment.name, refusal.code).inc()
        raise refusal


async def _read(
    request: Request, headers: Headers, deployment: Deployment, reservation: Reservation
) -> ImageBody:
    state: State = request.scope["state"]
    limits: Limits = state["limits"]
    metrics: Metrics = state["metrics"]
    pool: Executor = state["pool"]
    try:
        return await read_image(
            headers,
            request.receive,
            max_bytes=limits.max_body_bytes,
            reserve=reservation.resize,
            pool=pool,
        )
    except Overloaded:
        metrics.rejections.labels(deployment.name, "bytes_in_flight").inc()
        raise
    except ClientGone:
        metrics.cancelled.labels(deployment.name, "read").inc()
        raise


async def run_until_disconnect(
    deadline: float, client: Client, work: Coroutine[Any, Any, Value]
) -> Value:
    """Await the work, but cancel it at the deadline or when the client disconnects.

    The work runs in the current task. A task of its own would cost more than the other work of the
    event loop for an image.

    Args:
        deadline: on the clock of the event loop, in seconds.
        client: the client that waits for the result.
        work: the coroutine.

    Raises:
        ClientGone: the client disconnected first.
        TimeoutError: the deadline passed first.
    """
    if client.gone:
        work.close()
        raise ClientGone("the client has disconnected")
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine always runs in a task
    cancelled_before = task.cancelling()
    reason: type[Exception] | None = None

    def cancel(error: type[Exception]) -> None:
        nonlocal reason
        if reason is None and task.cancel():
            reason = error

    timer = asyncio.get_running_loop().call_at(deadline, cancel, TimeoutError)
    client.watch(partial(cancel, ClientGone))
    try:
        return await work
    except asyncio.CancelledError:
        if reason is not None and task.uncancel() <= cancelled_before:
            raise reason("the work was cancelled") from None
        raise
    finally:
        timer.cancel()
        client.unwatch()
