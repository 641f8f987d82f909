"""Owns how every request about an image is answered: read, within its deadline, and counted.

Knows nothing of what is asked; a route says what work to do.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from app import parameters
from app.bodies import read_image
from app.deployment import Deployment
from app.errors import ClientGone, DeadlineExceeded, ModelNotLoaded, ServiceError
from app.jobs import Question
from app.metrics import Metrics
from app.quota import Quota, Share
from app.schemas import Task
from app.trips import Trip, unless_gone

Deployments = Mapping[Task, Deployment]
Ask = Callable[[Deployment], Question]


@dataclass(frozen=True)
class Limits:
    """What a request may cost."""

    max_body_bytes: int
    request_timeout_s: float
    quota: Quota


def accepted(request: Request) -> str:
    """All `Accept` lines of a request as the one that they mean."""
    return ", ".join(request.headers.getlist("accept"))


async def answer(request: Request, task: Task, ask: Ask) -> Response:
    """Read the image of a request, answer the question before the deadline, and count it.

    Args:
        request: whose body has the image.
        task: which model is asked.
        ask: makes the question; it may need to know the model.
    """
    deployments: Deployments = request.state.deployments
    deployment = deployments.get(task)
    if deployment is None:
        raise ModelNotLoaded(f"this service has no model to {task}")
    metrics: Metrics = request.state.metrics
    limits: Limits = request.state.limits
    outcome = "internal"
    try:
        with limits.quota.share() as share:
            response = await _travel(request, deployment, ask, share)
        outcome = "ok"
    except ServiceError as error:
        outcome = error.code
        raise
    finally:
        metrics.of(metrics.images, deployment.name, outcome).inc()
    return response


async def _travel(request: Request, deployment: Deployment, ask: Ask, share: Share) -> Response:
    limits: Limits = request.state.limits
    metrics: Metrics = request.state.metrics
    timeout_s = parameters.timeout_s(request.headers, limits.request_timeout_s)
    deployment.refuse_unready()  # before the upload, as all that can be refused by then
    question = ask(deployment)
    began = time.monotonic()
    try:
        data = await _read(request, limits, share)
    except ClientGone:
        metrics.cancelled.labels(deployment.name, "read").inc()
        raise
    stages = {"read": time.monotonic() - began}
    trip = Trip(asyncio.get_running_loop().time() + timeout_s, stages)
    try:
        async with asyncio.timeout_at(trip.deadline):
            body = await unless_gone(request.receive, deployment.answer(data, trip, question))
    except (TimeoutError, DeadlineExceeded):
        metrics.deadline_missed.labels(deployment.name, trip.place).inc()
        raise DeadlineExceeded(f"not done within {timeout_s:g} s") from None
    except ClientGone:
        metrics.cancelled.labels(deployment.name, trip.place).inc()
        raise
    metrics.observe_stages(deployment.name, trip.stages)
    headers = {"Server-Timing": trip.server_timing()}
    return Response(body, headers=headers, media_type=question.media_type)


async def _read(request: Request, limits: Limits, share: Share) -> bytes:
    pool: Executor = request.state.pool
    try:
        return await read_image(
            request.headers,
            request.stream(),
            max_bytes=limits.max_body_bytes,
            hold=share.grow,
            pool=pool,
        )
    except ClientDisconnect:
        raise ClientGone("the caller left while uploading") from None
