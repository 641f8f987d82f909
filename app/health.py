"""Owns what orchestrators and Prometheus ask: /livez, /readyz, /startupz and /metrics.

Knows nothing of the queue's content; a probe never waits behind an image.
"""

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from app.deployment import Deployment
from app.endpoints import Endpoint
from app.metrics import Metrics
from app.openapi import HEALTH, METRICS
from app.schemas import HealthResponse

router = APIRouter(route_class=Endpoint)
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


@router.head("/livez", include_in_schema=False)
@router.get("/livez", openapi_extra=HEALTH["livez"], response_class=Response)
async def livez(request: Request) -> Response:
    """200 while the event loop answers and no device thread is dead or stuck."""
    deployments = request.state.deployments
    return _answer(deployments, [d.reason_dead for d in deployments.values()])


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", openapi_extra=HEALTH["readyz"], response_class=Response)
async def readyz(request: Request) -> Response:
    """200 while every model can answer."""
    deployments = request.state.deployments
    return _answer(deployments, [d.reason_unready for d in deployments.values()])


@router.head("/startupz", include_in_schema=False)
@router.get("/startupz", openapi_extra=HEALTH["startupz"], response_class=Response)
async def startupz(request: Request) -> Response:
    """200 once every model has been loaded and warmed up."""
    deployments = request.state.deployments
    starting = [
        f"{d.name} is {d.status}" if d.status != "ready" else None for d in deployments.values()
    ]
    return _answer(deployments, starting)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", openapi_extra=METRICS, response_class=Response)
async def metrics(request: Request) -> Response:
    """Every series, in Prometheus' text format."""
    series: Metrics = request.state.metrics
    deployments: Mapping[str, Deployment] = request.state.deployments
    ready = all(deployment.reason_unready is None for deployment in deployments.values())
    series.ready.set(ready)
    for deployment in deployments.values():
        deployment.refresh()
    return Response(series.exposition(), media_type=EXPOSITION)


def _answer(deployments: Mapping[str, Deployment], found: list[str | None]) -> Response:
    reasons = [reason for reason in found if reason is not None]
    body = HealthResponse(
        status="unavailable" if reasons else "ok",
        reasons=reasons,
        models={deployment.name: deployment.status for deployment in deployments.values()},
    )
    return Response(
        body.model_dump_json(), status_code=503 if reasons else 200, media_type="application/json"
    )
