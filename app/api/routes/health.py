"""Owns what orchestrators and Prometheus ask: /livez, /readyz, /startupz and /metrics.

Knows nothing of the queue's content; a probe never waits behind an image. Where there are several
replicas, any of them answers for all, from the table of their heartbeats.
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
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class ReplicaStatus(Protocol):
    """The index and the state of one replica."""

    @property
    def index(self) -> int:
        """Its number, from 0."""
        ...

    @property
    def state(self) -> str:
        """`ready`, or why it is not."""
        ...


class Replicas(Protocol):
    """What the probes ask of all replicas; times are seconds of the monotonic clock."""

    def reasons_dead(self, now: float) -> list[str]:
        """Why only a restart of all replicas can help; empty while one is alive."""
        ...

    def reasons_unready(self, now: float) -> list[str]:
        """Why no replica can answer; empty while one can."""
        ...

    def reasons_unstarted(self, now: float) -> list[str]:
        """Why no replica has been ready yet; empty once one was."""
        ...

    def statuses(self, now: float) -> Sequence[ReplicaStatus]:
        """The status of each replica."""
        ...


@router.head("/livez", include_in_schema=False)
@router.get("/livez", openapi_extra=HEALTH["livez"], response_class=Response)
async def livez(request: Request) -> Response:
    """200 while the event loop answers and no device thread is dead or stuck.

    Of several replicas: while their parent lives, which restarts those that are, and not all are.
    """
    shutdown: Shutdown = request.state.shutdown
    dead = [shutdown.reason_dead, *(d.reason_dead for d in request.state.deployments.values())]
    return _answer(request, dead, lambda replicas, now: replicas.reasons_dead(now))


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", openapi_extra=HEALTH["readyz"], response_class=Response)
async def readyz(request: Request) -> Response:
    """200 while every model can answer and nothing leaves; of several replicas, while one can."""
    return _answer(request, _unready(request), lambda replicas, now: replicas.reasons_unready(now))


@router.head("/startupz", include_in_schema=False)
@router.get("/startupz", openapi_extra=HEALTH["startupz"], response_class=Response)
async def startupz(request: Request) -> Response:
    """200 once every model has been loaded and warmed up; of several replicas, those of one."""
    deployments = request.state.deployments
    starting = [
        f"{d.name} is {d.status}" if d.status != "ready" else None for d in deployments.values()
    ]
    return _answer(request, starting, lambda replicas, now: replicas.reasons_unstarted(now))


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", openapi_extra=METRICS, response_class=Response)
async def metrics(request: Request) -> Response:
    """Every series, in Prometheus' text format."""
    series: Metrics = request.state.metrics
    deployments: Mapping[str, Deployment] = request.state.deployments
    shutdown: Shutdown = request.state.shutdown
    series.ready.set(not any(_unready(request)))
    series.draining.set(shutdown.begun)
    for deployment in deployments.values():
        deployment.refresh()
    text = await asyncio.to_thread(series.exposition)  # of many replicas it takes a while
    return Response(text, media_type=EXPOSITION)


def _unready(request: Request) -> list[str | None]:
    shutdown: Shutdown = request.state.shutdown
    deployments: Mapping[str, Deployment] = request.state.deployments
    return [shutdown.reason_unready, *(d.reason_unready for d in deployments.values())]


def _answer(
    request: Request,
    found: list[str | None],
    of_all: Callable[[Replicas, float], list[str]],
) -> Response:
    deployments: Mapping[str, Deployment] = request.state.deployments
    table: Replicas | None = getattr(request.state, "replicas", None)
    reasons = [reason for reason in found if reason is not None]
    replicas = None
    if table is not None:
        now = time.monotonic()
        reasons = of_all(table, now)
        replicas = {str(each.index): each.state for each in table.statuses(now)}
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
