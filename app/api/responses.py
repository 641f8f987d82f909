"""Response bodies: predictions, masks and explanations, as PNG or JSON. The CLI uses them too."""

import base64
from typing import cast

from app.api.drawing import Drawing
from app.api.schemas import ExplainResponse, Prediction, Segment, SegmentResponse
from app.batching.deployment import Deployment
from app.core.types import Method
from app.engine.interface import EngineOutput, ModelInfo, Ranking, Relevance, Segmentation
from app.imaging import confidence, heatmap, masks
from app.imaging.decode import Photo
from app.imaging.overlay import Overlay
from app.imaging.polygons import polygons


def predictions(info: ModelInfo, ranking: Ranking) -> list[Prediction]:
    """The predictions of a ranking, best first."""
    best = zip(ranking.indices, ranking.scores, strict=True)
    return [Prediction(label=info.labels[i], index=i, score=score) for i, score in best]


def explanation_png(info: ModelInfo, photo: Photo, relevance: Relevance, method: Method) -> bytes:
    """Draw the relevance over the photo as a PNG file of the photo's size.

    The text chunks `label`, `score` and `method` name the explained label and the method.
    `photo.rgb` must be set.
    """
    assert photo.rgb is not None  # noqa: S101  # the operation has keep_rgb
    best = predictions(info, relevance.ranking)[0]
    notes = {"label": best["label"], "score": f"{best['score']:.4f}", "method": method}
    return heatmap.render(photo.rgb, relevance.grid, grid_box(info, photo, relevance), notes)


def explanation_json(
    name: str, info: ModelInfo, photo: Photo, relevance: Relevance, method: Method
) -> ExplainResponse:
    """The explanation by the model `name` as numbers."""
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
    """The box of the relevance grid in the photo."""
    return info.preprocessing.source_box(photo.height, photo.width, relevance.extent)


def segment_png(
    info: ModelInfo,
    style: str,
    photo: Photo,
    found: Segmentation,
    overlay: Overlay,
) -> bytes:
    """Draw a segmentation as a PNG file of the image's size.

    `photo.rgb` must be set for `overlay`, and the confidence for `confidence`.
    """
    if style == "confidence":
        assert found.confidence is not None  # noqa: S101  # the input asks for it
        return confidence.render(found.confidence.pixels)
    return masks.render(found.labels, info.labels, style, photo.rgb, overlay)


def mask_png(deployment: Deployment, drawing: Drawing, photo: Photo, output: EngineOutput) -> bytes:
    """Render the segmentation as a PNG file of the image's size."""
    found = cast(Segmentation, output)
    return segment_png(deployment.info, drawing.style, photo, found, drawing.overlay)


def segments(info: ModelInfo, found: Segmentation, tolerance: float | None = None) -> list[Segment]:
    """The classes of a segmentation that has the confidence; with a tolerance also their polygons.

    Raises:
        InvalidParameter: the mask has too many edges for polygons.
    """
    assert found.confidence is not None  # noqa: S101  # the input asks for it
    rings = None if tolerance is None else polygons(found.labels, tolerance)
    listed = []
    for each in masks.statistics(found.labels, info.labels):
        more: dict[str, object] = {"confidence": confidence.mean(found.confidence.sums, each)}
        if rings is not None:
            more["polygons"] = rings[each["index"]]
        listed.append(Segment.model_validate(each | more))
    return listed


def mask_json(
    deployment: Deployment, drawing: Drawing, photo: Photo, output: EngineOutput
) -> bytes:
    """The segments of the label map, with its PNG in base64, as JSON."""
    body = SegmentResponse(
        model=deployment.name,
        width=photo.width,
        height=photo.height,
        segments=segments(deployment.info, cast(Segmentation, output), drawing.tolerance),
        background=drawing.overlay.background,
        mask=base64.b64encode(mask_png(deployment, drawing, photo, output)).decode(),
    )
    return body.model_dump_json(exclude_unset=True).encode()
