"""Owns how every request about an image is answered: read, within its deadline, and counted.

Knows nothing of what is asked; a route says what work to do.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastapi import Request, Response

from app.api import params
from app.api.body import BytesInFlight, Reservation, read_image
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
from app.core.scope import Client, client_of
from app.core.shutdown import Shutdown
from app.core.types import Task
from app.observability.metrics import Metrics

Deployments = Mapping[Task, Deployment]
Ask = Callable[[Deployment], Operation]
State = MutableMapping[str, Any]  # what the lifespan gave, and what becomes of this request


@dataclass(frozen=True)
class Limits:
    """What a request may cost."""

    max_body_bytes: int
    request_timeout_s: float
    quota: BytesInFlight


async def handle(request: Request, headers: Headers, task: Task, ask: Ask) -> Response:
    """Read the image of a request, answer the question before the deadline, and count it.

    Args:
        request: whose body has the image.
        headers: of the request.
        task: which model is asked.
        ask: makes the question; it may need to know the model.
    """
    state: State = request.scope["state"]
    deployments: Deployments = state["deployments"]
    deployment = deployments.get(task)
    if deployment is None:
        raise ModelNotLoaded(f"this service has no model to {task}")
    metrics: Metrics = state["metrics"]
    limits: Limits = state["limits"]
    outcome = "internal"
    try:
        with limits.quota.reserve() as share:
            response = await _infer(request, headers, deployment, ask, share)
        outcome = "ok"
    except ServiceError as error:
        outcome = error.code
        raise
    except asyncio.CancelledError:  # the server cannot wait for it; the edge says so
        shutdown: Shutdown = state["shutdown"]
        outcome = shutdown.refusal.code if shutdown.refusal else outcome
        raise
    finally:
        metrics.buffer.record(1, metrics.images, deployment.name, outcome)
    return response


async def _infer(
    request: Request, headers: Headers, deployment: Deployment, ask: Ask, share: Reservation
) -> Response:
    state: State = request.scope["state"]
    limits: Limits = state["limits"]
    metrics: Metrics = state["metrics"]
    timeout_s = params.timeout_s(headers, limits.request_timeout_s)
    _refuse_leaving(state, deployment)
    deployment.refuse_unready()  # before the upload, as all that can be refused by then
    operation = ask(deployment)
    began = time.monotonic()
    data = await _read(request, headers, deployment, share)
    stages = {"read": time.monotonic() - began}
    context = RequestContext(asyncio.get_running_loop().time() + timeout_s, stages)
    state["context"] = context  # for the line in the log, whatever becomes of it
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
    # as an argument, headers would be gone through three times
    response.raw_headers.append((b"server-timing", context.server_timing().encode()))
    return response


def _refuse_leaving(state: State, deployment: Deployment) -> None:
    shutdown: Shutdown = state["shutdown"]
    refusal = shutdown.refusal
    if refusal is not None:
        metrics: Metrics = state["metrics"]
        metrics.rejections.labels(deployment.name, refusal.code).inc()
        raise refusal


async def _read(
    request: Request, headers: Headers, deployment: Deployment, share: Reservation
) -> bytes:
    state: State = request.scope["state"]
    limits: Limits = state["limits"]
    metrics: Metrics = state["metrics"]
    pool: Executor = state["pool"]
    try:
        return await read_image(
            headers,
            request.receive,
            max_bytes=limits.max_body_bytes,
            hold=share.grow,
            pool=pool,
        )
    except Overloaded:
        metrics.rejections.labels(deployment.name, "bytes_in_flight").inc()
        raise
    except ClientGone:
        metrics.cancelled.labels(deployment.name, "read").inc()
        raise


Value = TypeVar("Value")


async def run_until_disconnect(
    deadline: float, client: Client, work: Coroutine[Any, Any, Value]
) -> Value:
    """Do the work, but give it up at its deadline, or as soon as the caller has left.

    It is done in the task that asks for it, which is cancelled if need be: a task of its own would
    cost more than what there is to do around an image.

    Args:
        deadline: on the clock of the loop, in seconds.
        client: who waits for it.
        work: what to do.

    Raises:
        ClientGone: the caller left first.
        TimeoutError: the deadline came first.
    """
    if client.gone:
        work.close()
        raise ClientGone("the caller left")
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine runs in one
    cancelled_before = task.cancelling()
    reason: type[Exception] | None = None

    def give_up(why: type[Exception]) -> None:
        nonlocal reason
        if reason is None and task.cancel():
            reason = why

    timer = asyncio.get_running_loop().call_at(deadline, give_up, TimeoutError)
    client.watch(partial(give_up, ClientGone))
    try:
        return await work
    except asyncio.CancelledError:
        if reason is not None and task.uncancel() <= cancelled_before:
            raise reason("nobody waits for the answer any more") from None
        raise
    finally:
        timer.cancel()
        client.unwatch()
