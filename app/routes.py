"""Owns POST /classify, POST /segment and GET /models: from a request to its answer.

Knows nothing of batches or devices; a deployment does the work.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from app import masks, openapi, parameters
from app.bodies import read_image
from app.deployment import Deployment
from app.errors import ClientGone, DeadlineExceeded, ModelNotLoaded, NotFound, ServiceError
from app.images import Photo
from app.metrics import Metrics
from app.schemas import (
    BatchCost,
    ClassifyResponse,
    ModelResponse,
    ModelsResponse,
    Prediction,
    Segment,
    SegmentResponse,
    Task,
)
from app.seam import ClassifyInput, LabelMap, Ranking, SegmentInput
from app.trips import Trip, unless_gone

router = APIRouter()
Deployments = Mapping[Task, Deployment]
Work = Callable[[Deployment, bytes, Trip], Coroutine[Any, Any, Response]]

JSON, PNG = "application/json", "image/png"
DEFAULT_TOP_K = 5


@dataclass(frozen=True)
class Limits:
    """What a request may cost."""

    max_body_bytes: int
    request_timeout_s: float


@router.post("/classify", openapi_extra=openapi.CLASSIFY, response_class=Response)
async def classify(request: Request) -> Response:
    """The labels of an image, best first."""
    parameters.accept(accepted(request), JSON)
    query = parameters.known(request.query_params, ["top_k"])
    return await answer(request, "classify", partial(_classify, query=query))


async def _classify(
    deployment: Deployment, data: bytes, trip: Trip, query: Mapping[str, str]
) -> Response:
    labels = deployment.info.labels
    default = str(min(DEFAULT_TOP_K, len(labels)))
    top_k = parameters.integer("top_k", query.get("top_k", default), 1, len(labels))
    _, output = await deployment.process(
        data, trip, lambda photo: ClassifyInput(photo.pixels, top_k)
    )
    ranking = cast(Ranking, output)
    predictions = [
        Prediction(label=labels[index], index=index, score=score)
        for index, score in zip(ranking.indices, ranking.scores, strict=True)
    ]
    body = ClassifyResponse(model=deployment.name, predictions=predictions)
    return Response(body.model_dump_json(), media_type=JSON)


@router.post("/segment", openapi_extra=openapi.SEGMENT, response_class=Response)
async def segment(request: Request) -> Response:
    """The mask of an image: a PNG of its size, or JSON."""
    media_type = parameters.accept(accepted(request), PNG, JSON)
    query = parameters.known(request.query_params, ["render"])
    how = parameters.choice("render", query.get("render", "mask"), masks.RENDERS)
    return await answer(request, "segment", partial(_segment, how=how, media_type=media_type))


async def _segment(
    deployment: Deployment, data: bytes, trip: Trip, how: str, media_type: str
) -> Response:
    photo, output = await deployment.process(
        data,
        trip,
        lambda photo: SegmentInput(photo.pixels, (photo.height, photo.width)),
        keep_rgb=how == "overlay",
    )
    encode = _png if media_type == PNG else _json
    work = partial(encode, deployment, photo, cast(LabelMap, output), how)
    return Response(await deployment.in_pool(trip, "encode", work), media_type=media_type)


def _png(deployment: Deployment, photo: Photo, label_map: LabelMap, how: str) -> bytes:
    return masks.render(label_map, deployment.info.labels, how, photo.rgb)


def _json(deployment: Deployment, photo: Photo, label_map: LabelMap, how: str) -> bytes:
    found = masks.statistics(label_map, deployment.info.labels)
    body = SegmentResponse(
        model=deployment.name,
        width=photo.width,
        height=photo.height,
        segments=[Segment.model_validate(one) for one in found],
        mask=base64.b64encode(_png(deployment, photo, label_map, how)).decode(),
    )
    return body.model_dump_json().encode()


@router.get("/models", openapi_extra=openapi.MODELS, response_class=Response)
async def models(request: Request) -> Response:
    """Every model of the service."""
    deployments: Deployments = request.state.deployments
    body = ModelsResponse(models=[describe(deployment) for deployment in deployments.values()])
    return Response(body.model_dump_json(), media_type=JSON)


@router.get("/models/{name}", openapi_extra=openapi.MODEL, response_class=Response)
async def model(request: Request) -> Response:
    """One model of the service."""
    name = request.path_params["name"]
    deployments: Deployments = request.state.deployments
    for deployment in deployments.values():
        if deployment.name == name:
            return Response(describe(deployment).model_dump_json(), media_type=JSON)
    raise NotFound("there is no model of this name; GET /models lists them")


def accepted(request: Request) -> str:
    """All `Accept` lines of a request as the one that they mean."""
    return ", ".join(request.headers.getlist("accept"))


def describe(deployment: Deployment) -> ModelResponse:
    """What is known of a model: its name, task and status until it is loaded."""
    known = ModelResponse(name=deployment.name, task=deployment.task, status=deployment.status)
    if deployment.status != "ready":
        return known
    info = deployment.info
    size = info.preprocessing.input_size
    costs = sorted(deployment.costs.items())
    return known.model_copy(
        update={
            "labels": list(info.labels),
            "input_size": None if size is None else list(size),
            "device": info.device,
            "dtype": info.dtype,
            "parameters": info.parameters,
            "max_batch_size": deployment.batcher.max_batch_size,
            "batch_costs": [BatchCost(batch_size=n, seconds=s) for n, s in costs],
        }
    )


async def answer(request: Request, task: Task, work: Work) -> Response:
    """Read the image of a request, do the work before the deadline, and count how it went."""
    deployments: Deployments = request.state.deployments
    deployment = deployments.get(task)
    if deployment is None:
        raise ModelNotLoaded(f"this service has no model to {task}")
    metrics: Metrics = request.state.metrics
    outcome = "internal"
    try:
        response = await _travel(request, deployment, work)
        outcome = "ok"
    except ServiceError as error:
        outcome = error.code
        raise
    finally:
        metrics.images.labels(deployment.name, outcome).inc()
    return response


async def _travel(request: Request, deployment: Deployment, work: Work) -> Response:
    limits: Limits = request.state.limits
    metrics: Metrics = request.state.metrics
    timeout_s = parameters.timeout_s(request.headers, limits.request_timeout_s)
    deployment.refuse_unready()  # before the upload, not after it
    began = time.monotonic()
    data = await _read(request, limits)
    stages = {"read": time.monotonic() - began}
    trip = Trip(asyncio.get_running_loop().time() + timeout_s, stages)
    try:
        async with asyncio.timeout_at(trip.deadline):
            response = await unless_gone(request.receive, work(deployment, data, trip))
    except (TimeoutError, DeadlineExceeded):
        metrics.deadline_missed.labels(deployment.name, trip.place).inc()
        raise DeadlineExceeded(f"not done within {timeout_s:g} s") from None
    except ClientGone:
        metrics.cancelled.labels(deployment.name, trip.place).inc()
        raise
    metrics.observe_stages(deployment.name, trip.stages)
    response.headers["Server-Timing"] = trip.server_timing()
    return response


async def _read(request: Request, limits: Limits) -> bytes:
    pool: Executor = request.state.pool
    try:
        return await read_image(
            request.headers, request.stream(), max_bytes=limits.max_body_bytes, pool=pool
        )
    except ClientDisconnect:
        raise ClientGone("the caller left while uploading") from None
