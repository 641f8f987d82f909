"""The probes /livez, /readyz and /startupz, and /metrics; /health is another name of /readyz.

A probe never waits for an image. With several replicas, each replica answers for all of them, from
the table of heartbeats.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from fastapi import APIRouter, Request, Response

from app.api.openapi import HEALTH, METRICS
from app.api.routing import Endpoint
from app.api.schemas import HealthResponse
from app.batching.deployment import Deployment
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics

router = APIRouter(route_class=Endpoint)
# orchestrators and Prometheus need these most while the service is overloaded
PROBES = frozenset(("/health", "/livez", "/readyz", "/startupz", "/metrics"))
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class ReplicaStatus(Protocol):
    """Index and state of one replica."""

    @property
    def index(self) -> int:
        """The number of the replica, from 0."""
        ...

    @property
    def state(self) -> str:
        """`ready`, or why the replica is not ready."""
        ...


class Replicas(Protocol):
    """The table of replicas, as the probes need it; `now` is monotonic time in seconds."""

    def reasons_dead(self, now: float) -> list[str]:
        """Why only a restart of all replicas can help; empty while a replica is alive."""
        ...

    def reasons_unready(self, now: float) -> list[str]:
        """Why no replica is ready; empty while a replica is ready."""
        ...

    def reasons_unstarted(self, now: float) -> list[str]:
        """Why no replica has been ready yet; empty once a replica was."""
        ...

    def statuses(self, now: float) -> Sequence[ReplicaStatus]:
        """The status of each replica."""
        ...


@router.head("/livez", include_in_schema=False)
@router.get("/livez", openapi_extra=HEALTH["livez"], response_class=Response)
async def livez(request: Request) -> Response:
    """200 while the event loop responds and no device thread is dead or stuck.

    With several replicas: while a replica is alive, and so is the parent that restarts the others.
    """
    shutdown: Shutdown = request.state.shutdown
    dead = [shutdown.reason_dead, *(d.reason_dead for d in request.state.deployments.values())]
    return _response(request, _of_all(request, dead, lambda table, now: table.reasons_dead(now)))


@router.head("/health", include_in_schema=False)
@router.get("/health", openapi_extra=HEALTH["health"], response_class=Response)
@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", openapi_extra=HEALTH["readyz"], response_class=Response)
async def readyz(request: Request) -> Response:
    """200 while all models are ready and no shutdown has begun, in at least one replica."""
    return _response(request, reasons_unready(request))


@router.head("/startupz", include_in_schema=False)
@router.get("/startupz", openapi_extra=HEALTH["startupz"], response_class=Response)
async def startupz(request: Request) -> Response:
    """200 once all models are loaded and warmed up, in at least one replica."""
    deployments = request.state.deployments
    starting = [
        f"{d.name} is {d.status}" if d.status != "ready" else None for d in deployments.values()
    ]
    reasons = _of_all(request, starting, lambda table, now: table.reasons_unstarted(now))
    return _response(request, reasons)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", openapi_extra=METRICS, response_class=Response)
async def metrics(request: Request) -> Response:
    """All metrics in Prometheus' text format."""
    series: Metrics = request.state.metrics
    deployments: Mapping[str, Deployment] = request.state.deployments
    shutdown: Shutdown = request.state.shutdown
    series.ready.set(not any(_unready(request)))
    series.draining.set(shutdown.begun)
    for deployment in deployments.values():
        deployment.refresh()
    text = await asyncio.to_thread(series.exposition)  # takes a while with many replicas
    return Response(text, media_type=EXPOSITION)


def reasons_unready(request: Request) -> list[str]:
    """Why the service is not ready: why no replica is, if there are several."""
    return _of_all(request, _unready(request), lambda table, now: table.reasons_unready(now))


def _unready(request: Request) -> list[str | None]:
    shutdown: Shutdown = request.state.shutdown
    deployments: Mapping[str, Deployment] = request.state.deployments
    return [shutdown.reason_unready, *(d.reason_unready for d in deployments.values())]


def _table(request: Request) -> Replicas | None:
    return getattr(request.state, "replicas", None)


def _of_all(
    request: Request,
    own_reasons: list[str | None],
    reasons_of_all: Callable[[Replicas, float], list[str]],
) -> list[str]:
    table = _table(request)
    if table is not None:
        return reasons_of_all(table, time.monotonic())
    return [reason for reason in own_reasons if reason is not None]


def _response(request: Request, reasons: list[str]) -> Response:
    deployments: Mapping[str, Deployment] = request.state.deployments
    table, replicas = _table(request), None
    if table is not None:
        statuses = table.statuses(time.monotonic())
        replicas = {str(each.index): each.state for each in statuses}
    if reasons:
        request.scope["state"]["cause"] = "; ".join(reasons)
    body = HealthResponse(
        status="unavailable" if reasons else "ok",
        reasons=reasons,
        models={deployment.name: deployment.status for deployment in deployments.values()},
        replicas=replicas,
    )
    return Response(
        body.model_dump_json(exclude_none=True),
        status_code=503 if reasons else 200,
        media_type="application/json",
    )
