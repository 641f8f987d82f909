"""POST /classify, /segment and /explain: their parameters, and the operation of each."""

from functools import partial
from typing import cast, get_args

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from app.api import drawing, openapi, params, responses
from app.api.inference import Parameters, handle
from app.api.params import headers_of
from app.api.routing import Endpoint
from app.api.schemas import EmbeddingResponse
from app.batching.deployment import Deployment
from app.batching.job import Operation
from app.core.errors import InvalidParameter
from app.core.types import Method
from app.engine.interface import (
    ClassifyInput,
    Embedding,
    EmbedInput,
    EngineOutput,
    ExplainInput,
    Ranking,
    Relevance,
    SegmentInput,
)
from app.imaging import heatmap, masks, polygons
from app.imaging.decode import Photo

router = APIRouter(route_class=Endpoint)

JSON, PNG = "application/json", "image/png"
DEFAULT_TOP_K = 5
CLASSIFY_PARAMETERS = ("top_k", "threshold", "output")


@router.post("/classify", openapi_extra=openapi.CLASSIFY, response_class=Response)
async def classify(request: Request) -> Response:
    """The labels of an image, best first, or its embedding."""
    headers = headers_of(request.scope)
    params.accept(headers.get("accept"), JSON)
    return await handle(request, headers, "classify", CLASSIFY_PARAMETERS, _labels_or_embedding)


def _labels_or_embedding(given: Parameters, deployment: Deployment) -> Operation:
    output = params.choice("output", given.get("output", "labels"), ["labels", "embedding"])
    if output == "labels":
        return _labels(given, deployment)
    if "threshold" in given:
        raise InvalidParameter("threshold needs output=labels; an embedding has no scores")
    return _embedding(deployment)


def _labels(given: Parameters, deployment: Deployment) -> Operation:
    top_k, threshold = _top_k(deployment, given), _threshold(deployment, given)

    def encode(photo: Photo, output: EngineOutput) -> bytes:
        predictions = responses.predictions(deployment.info, cast(Ranking, output))
        if threshold > 0:
            predictions = [each for each in predictions if each["score"] >= threshold]
        body = {"model": deployment.name, "predictions": predictions}  # a ClassifyResponse
        return to_json(body)  # validation by pydantic would take three times as long

    return Operation(
        "classify", ClassifyInput, lambda photo: ClassifyInput(photo.pixels, top_k), encode, JSON
    )


def _embedding(deployment: Deployment) -> Operation:
    def encode(photo: Photo, output: EngineOutput) -> bytes:
        embedding = cast(Embedding, output).tolist()
        body = EmbeddingResponse(model=deployment.name, embedding=embedding)
        return body.model_dump_json().encode()

    return Operation("embed", EmbedInput, lambda photo: EmbedInput(photo.pixels), encode, JSON)


def _threshold(deployment: Deployment, given: Parameters) -> float:
    """The lowest score that is returned."""
    if "threshold" not in given:
        return 0.0
    if deployment.info.problem_type == "regression":
        raise InvalidParameter("threshold: the scores of this model are values of a regression")
    return params.number("threshold", given["threshold"], 0, 1)


def _top_k(deployment: Deployment, given: Parameters) -> int:
    count = len(deployment.info.labels)
    value = given.get("top_k", str(min(DEFAULT_TOP_K, count)))
    return params.integer("top_k", value, 1, count)


@router.post("/explain", openapi_extra=openapi.EXPLAIN, response_class=Response)
async def explain(request: Request) -> Response:
    """The relevance of each image region for the best label: drawn over the image, or as JSON."""
    headers = headers_of(request.scope)
    media_type = params.accept(headers.get("accept"), PNG, JSON)
    make_operation = partial(_relevance, media_type)
    return await handle(request, headers, "classify", ["top_k", "method"], make_operation)


def _relevance(media_type: str, given: Parameters, deployment: Deployment) -> Operation:
    methods = get_args(Method)
    method = cast(Method, params.choice("method", given.get("method", methods[0]), methods))
    top_k = _top_k(deployment, given)

    def encode(photo: Photo, output: EngineOutput) -> bytes:
        info, relevance = deployment.info, cast(Relevance, output)
        if media_type == PNG:
            return responses.explanation_png(info, photo, relevance, method)
        body = responses.explanation_json(deployment.name, info, photo, relevance, method)
        return body.model_dump_json().encode()

    return Operation(
        f"explain by {method} as {media_type}",
        ExplainInput,
        lambda photo: ExplainInput(photo.pixels, top_k, method),
        encode,
        media_type,
        keep_rgb=media_type == PNG,
        work_per_pixel=heatmap.WORK_PER_PIXEL if media_type == PNG else 0.0,
        engine_work=method,
    )


@router.post("/segment", openapi_extra=openapi.SEGMENT, response_class=Response)
async def segment(request: Request) -> Response:
    """The mask of an image: a PNG of its size, or JSON."""
    headers = headers_of(request.scope)
    media_type = params.accept(headers.get("accept"), PNG, JSON)
    return await handle(request, headers, "segment", drawing.PARAMETERS, partial(_mask, media_type))


def _mask(media_type: str, given: Parameters, deployment: Deployment) -> Operation:
    labels, as_json = deployment.info.labels, media_type == JSON
    asked = drawing.drawing(given, labels, as_json=as_json)
    with_polygons = asked.tolerance is not None
    confidence = as_json or asked.style == "confidence"
    encode = responses.mask_json if as_json else responses.mask_png
    work = masks.work_per_pixel(asked.style, len(labels), confidence=confidence)
    return Operation(
        f"segment to {asked.style} as {media_type}{' with polygons' * with_polygons}",
        SegmentInput,
        lambda photo: SegmentInput(photo.pixels, (photo.height, photo.width), confidence),
        partial(encode, deployment, asked),
        media_type,
        keep_rgb=asked.style == "overlay",
        work_per_pixel=work + polygons.WORK_PER_PIXEL * with_polygons,
    )
