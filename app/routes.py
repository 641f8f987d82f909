"""Owns POST /classify, POST /segment and POST /explain: from an image to its answer.

Knows nothing of batches or devices; a deployment does the work.
"""

import base64
from collections.abc import Mapping
from functools import partial
from typing import cast, get_args

from fastapi import APIRouter, Request, Response

from app import explanations, masks, openapi, parameters
from app.answering import accepted, answer
from app.deployment import Deployment
from app.images import Photo
from app.schemas import (
    ClassifyResponse,
    EmbeddingResponse,
    Method,
    Segment,
    SegmentResponse,
)
from app.seam import (
    ClassifyInput,
    Embedding,
    EmbedInput,
    ExplainInput,
    LabelMap,
    Ranking,
    Relevance,
    SegmentInput,
)
from app.trips import Trip

router = APIRouter()
Query = Mapping[str, str]

JSON, PNG = "application/json", "image/png"
DEFAULT_TOP_K = 5


@router.post("/classify", openapi_extra=openapi.CLASSIFY, response_class=Response)
async def classify(request: Request) -> Response:
    """The labels of an image, best first, or its embedding."""
    parameters.accept(accepted(request), JSON)
    query = parameters.known(request.query_params, ["top_k", "output"])
    output = parameters.choice("output", query.get("output", "labels"), ["labels", "embedding"])
    work = _embed if output == "embedding" else partial(_classify, query=query)
    return await answer(request, "classify", work)


async def _classify(deployment: Deployment, data: bytes, trip: Trip, query: Query) -> Response:
    top_k = _top_k(deployment, query)
    _, output = await deployment.process(
        data, trip, lambda photo: ClassifyInput(photo.pixels, top_k)
    )
    predictions = explanations.predictions(deployment.info, cast(Ranking, output))
    body = ClassifyResponse(model=deployment.name, predictions=predictions)
    return Response(body.model_dump_json(), media_type=JSON)


async def _embed(deployment: Deployment, data: bytes, trip: Trip) -> Response:
    _, output = await deployment.process(data, trip, lambda photo: EmbedInput(photo.pixels))
    embedding = cast(Embedding, output).tolist()
    body = EmbeddingResponse(model=deployment.name, embedding=embedding)
    return Response(body.model_dump_json(), media_type=JSON)


def _top_k(deployment: Deployment, query: Query) -> int:
    count = len(deployment.info.labels)
    asked = query.get("top_k", str(min(DEFAULT_TOP_K, count)))
    return parameters.integer("top_k", asked, 1, count)


@router.post("/explain", openapi_extra=openapi.EXPLAIN, response_class=Response)
async def explain(request: Request) -> Response:
    """What the classifier's best label hangs on: a picture over the image, or the numbers."""
    media_type = parameters.accept(accepted(request), PNG, JSON)
    query = parameters.known(request.query_params, ["top_k", "method"])
    known = get_args(Method)
    method = parameters.choice("method", query.get("method", known[0]), known)
    work = partial(_explain, query=query, method=cast(Method, method), media_type=media_type)
    return await answer(request, "classify", work)


async def _explain(
    deployment: Deployment,
    data: bytes,
    trip: Trip,
    query: Query,
    method: Method,
    media_type: str,
) -> Response:
    top_k = _top_k(deployment, query)
    photo, output = await deployment.process(
        data,
        trip,
        lambda photo: ExplainInput(photo.pixels, top_k, method),
        keep_rgb=media_type == PNG,
    )
    encode = _heat_png if media_type == PNG else _heat_json
    work = partial(encode, deployment, photo, cast(Relevance, output), method)
    return Response(await deployment.in_pool(trip, "encode", work), media_type=media_type)


def _heat_png(deployment: Deployment, photo: Photo, relevance: Relevance, method: Method) -> bytes:
    return explanations.picture(deployment.info, photo, relevance, method)


def _heat_json(deployment: Deployment, photo: Photo, relevance: Relevance, method: Method) -> bytes:
    body = explanations.numbers(deployment.name, deployment.info, photo, relevance, method)
    return body.model_dump_json().encode()


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
