"""GET /status: what the page shows of the service: readiness, models, limits and traffic."""

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from app.api import openapi
from app.api.inference import Limits
from app.api.routes.health import reasons_unready
from app.api.routing import Endpoint
from app.api.schemas import (
    LatencyBuckets,
    ModelStatus,
    ServiceLimits,
    StatusResponse,
    TrafficTotals,
)
from app.batching.deployment import Deployment, Status
from app.observability.traffic import RecentTraffic, Traffic

router = APIRouter(route_class=Endpoint)
ROUTES = frozenset(("/classify", "/segment", "/explain"))
STEPS: Mapping[Status, int] = {"warming_up": 1, "warm": 2, "ready": 2}  # that a model has done
STEPS_OF_MODEL = 2  # load and warm up


class Service(NamedTuple):
    """What a client may know of the settings, besides the limits of image requests."""

    key_required: bool
    max_image_pixels: int
    image_formats: tuple[str, ...]


@router.get("/status", openapi_extra=openapi.STATUS, response_class=Response)
async def status(request: Request) -> Response:
    """Readiness with progress, the models, the limits, and totals of the image requests.

    Two responses show the traffic between them.
    """
    deployments: Mapping[str, Deployment] = request.state.deployments
    recent: RecentTraffic = request.state.traffic
    for deployment in deployments.values():
        deployment.refresh()
    read_at, traffic = await recent.totals(ROUTES)  # takes a while with many replicas
    reasons = reasons_unready(request)
    body = StatusResponse(
        version=request.app.version,
        ready=not reasons,
        reasons=reasons,
        progress=progress(deployments),
        key_required=request.state.service.key_required,
        time=read_at,
        models=[describe(each) for each in deployments.values()],
        limits=limits(request.state.limits, request.state.service),
        traffic=totals(traffic),
    )
    content = body.model_dump_json()
    headers = {"Cache-Control": "no-store"}
    return Response(content, media_type="application/json", headers=headers)


def progress(deployments: Mapping[str, Deployment]) -> float:
    """The part of the start that is done, from 0 to 1: each model is loaded, then warmed up."""
    done = sum(STEPS.get(each.status, 0) for each in deployments.values())
    return done / (STEPS_OF_MODEL * len(deployments))


def describe(deployment: Deployment) -> ModelStatus:
    """A model in short; until it is warm, only its name, task and status."""
    known = ModelStatus(name=deployment.name, task=deployment.task, status=deployment.status)
    if deployment.status not in ("warm", "ready"):
        return known
    info = deployment.info
    size = info.preprocessing.input_size
    more = {
        "device": info.device,
        "dtype": info.dtype,
        "runtime": info.runtime,
        "parameters": info.parameters,
        "max_batch_size": deployment.batcher.sizer.largest,
        "labels": len(info.labels),
        "input_size": None if size is None else list(size),
        "problem_type": info.problem_type if info.task == "classify" else None,
    }
    return known.model_copy(update=more)


def limits(of_requests: Limits, service: Service) -> ServiceLimits:
    """The limits that a client should know before it sends an image."""
    return ServiceLimits(
        max_body_bytes=of_requests.max_body_bytes,
        max_image_pixels=service.max_image_pixels,
        request_timeout_s=of_requests.request_timeout_s,
        image_formats=list(service.image_formats),
    )


def totals(traffic: Traffic) -> TrafficTotals:
    """The traffic as JSON, which has no infinite number."""
    bounds = [None if bound == inf else bound for bound in traffic.latency]
    latency = LatencyBuckets(le=bounds, counts=list(traffic.latency.values()))
    return TrafficTotals(**traffic._asdict() | {"latency": latency})
