"""Owns how labels are told, and what the best one hangs on: as a picture, or as numbers.

Knows nothing of who asks, nor of how the relevance came about.
"""

import base64
from typing import cast

from app.api.schemas import ExplainResponse, Prediction, Segment, SegmentResponse
from app.batching.deployment import Deployment
from app.core.types import LabelMap, Method
from app.engine.interface import EngineOutput, ModelInfo, Ranking, Relevance
from app.imaging import heatmap, masks
from app.imaging.decode import Photo


def predictions(info: ModelInfo, ranking: Ranking) -> list[Prediction]:
    """The labels of a ranking, best first."""
    best = zip(ranking.indices, ranking.scores, strict=True)
    return [Prediction(label=info.labels[i], index=i, score=score) for i, score in best]


def explanation_png(info: ModelInfo, photo: Photo, relevance: Relevance, method: Method) -> bytes:
    """The relevance over the photo, which has its `rgb`: a PNG file of its size.

    Its text chunks `label`, `score` and `method` say what is explained, and how.
    """
    assert photo.rgb is not None  # noqa: S101  # it was asked for
    best = predictions(info, relevance.ranking)[0]
    notes = {"label": best["label"], "score": f"{best['score']:.4f}", "method": method}
    return heatmap.render(photo.rgb, relevance.grid, grid_box(info, photo, relevance), notes)


def explanation_json(
    name: str, info: ModelInfo, photo: Photo, relevance: Relevance, method: Method
) -> ExplainResponse:
    """What is known of an explanation by the model of that name."""
    top, left, bottom, right = grid_box(info, photo, relevance)
    return ExplainResponse(
        model=name,
        method=method,
        predictions=predictions(info, relevance.ranking),
        relevance=relevance.grid.tolist(),
        box=(left, top, right - left, bottom - top),
        attention_distance=relevance.attention_distance,
    )


def grid_box(info: ModelInfo, photo: Photo, relevance: Relevance) -> heatmap.Box:
    """Where the grid lies in the photo."""
    return info.preprocessing.source_box(photo.height, photo.width, relevance.extent)


def mask_png(deployment: Deployment, how: str, photo: Photo, output: EngineOutput) -> bytes:
    """The label map as a PNG of the image\'s size, rendered as `how` says."""
    return masks.render(cast(LabelMap, output), deployment.info.labels, how, photo.rgb)


def mask_json(deployment: Deployment, how: str, photo: Photo, output: EngineOutput) -> bytes:
    """The segments of the label map and its PNG in base64, as JSON."""
    found = masks.statistics(cast(LabelMap, output), deployment.info.labels)
    body = SegmentResponse(
        model=deployment.name,
        width=photo.width,
        height=photo.height,
        segments=[Segment.model_validate(one) for one in found],
        mask=base64.b64encode(mask_png(deployment, how, photo, output)).decode(),
    )
    return body.model_dump_json().encode()
