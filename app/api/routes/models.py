"""GET /models and GET /models/{name}: the loaded models and their properties."""

from typing import Literal

from fastapi import APIRouter, Request, Response

from app.api import openapi
from app.api.inference import Deployments
from app.api.routing import Endpoint
from app.api.schemas import BatchCost, ModelResponse, ModelsResponse
from app.batching.costs import Table
from app.batching.deployment import Deployment
from app.core.errors import NotFound

router = APIRouter(route_class=Endpoint)
JSON = "application/json"


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


def describe(deployment: Deployment) -> ModelResponse:
    """The description of a model; until the model is ready, only its name, task and status."""
    known = ModelResponse(name=deployment.name, task=deployment.task, status=deployment.status)
    if deployment.status != "ready":
        return known
    info = deployment.info
    size = info.preprocessing.input_size
    sizer = deployment.batcher.sizer
    costs = sizer.costs
    tables: tuple[tuple[Literal["wide", "narrow"], Table], ...] = (
        ("wide", costs.wide),
        ("narrow", costs.narrow),
    )
    return known.model_copy(
        update={
            "labels": list(info.labels),
            "input_size": None if size is None else list(size),
            "device": info.device,
            "dtype": info.dtype,
            "runtime": info.runtime,
            "parameters": info.parameters,
            "problem_type": info.problem_type if info.task == "classify" else None,
            "preprocessing_source": "assumed" if info.preprocessing_assumed else "checkpoint",
            "assumptions": list(info.assumptions),
            "max_batch_size": sizer.largest,
            "batch_costs": [
                BatchCost(lane=lane, batch_size=size, seconds=seconds)
                for lane, table in tables
                for size, seconds in table.items()
            ],
        }
    )
