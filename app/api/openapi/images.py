"""Owns the description of what is asked about an image: classify, segment, explain.

Knows nothing of how it is answered; a test holds it against the routes.
"""

from collections.abc import Sequence

from app.api import schemas
from app.api.openapi.components import (
    EXAMPLE_ID,
    EXAMPLE_IMAGE,
    SERVER_TIMING,
    Document,
    json_content,
    ok,
    parameter,
    problems,
    schema_ref,
)
from app.api.schemas import LONGEST_MS
from app.core import errors

BINARY = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
IMAGE_BODY = {
    "required": True,
    "description": "One image: JPEG, PNG, WebP, GIF (its first frame), BMP or TIFF, unless the "
    "service takes fewer. Any content type but the first two means the bytes of the file; the "
    "format is read off the bytes.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": BINARY["schema"]},
            }
        },
        "application/json": {
            "schema": schema_ref(schemas.ImageRequest),
            "example": {"image": EXAMPLE_IMAGE},
        },
        "application/octet-stream": BINARY,
        "image/*": BINARY,
    },
}
COMMON_PARAMETERS = [
    parameter(
        "header",
        "X-Request-Id",
        "an id to find the request by, of 1 to 128 letters, digits and _.:-; anything else is "
        "passed over for a new one",
        {"type": "string"},
        EXAMPLE_ID,
    ),
    parameter(
        "header",
        "X-Request-Timeout-Ms",
        "milliseconds from the last body byte; may only shorten the server's own",
        {"type": "integer", "minimum": 1, "maximum": LONGEST_MS},
        2000,
    ),
]
IMAGE_ERRORS = (
    errors.EmptyBody,
    errors.ModelNotLoaded,
    errors.NotAcceptable,
    errors.PayloadTooLarge,
    errors.ImageTooLarge,
    errors.UnsupportedImageFormat,
    errors.InvalidImage,
    errors.InvalidParameter,
    errors.Overloaded,
    errors.NotReady,
    errors.Draining,
    errors.DeadlineExceeded,
)


def image_operation(content: Document, parameters: Sequence[Document]) -> Document:
    """An operation that takes an image."""
    answer = ok(content)
    answer["headers"] |= {"Server-Timing": SERVER_TIMING}
    return {
        "requestBody": IMAGE_BODY,
        "parameters": [*parameters, *COMMON_PARAMETERS],
        "responses": {"200": answer} | problems(*IMAGE_ERRORS),
    }


TOP_K = parameter(
    "query",
    "top_k",
    "labels to return, at most as many as the model has; 5 if it has so many",
    {"type": "integer", "minimum": 1},
    2,
)
PREDICTIONS = [
    {"label": "star", "index": 4, "score": 0.983},
    {"label": "cross", "index": 5, "score": 0.011},
]
CLASSIFY = image_operation(
    {
        "application/json": {
            "schema": {
                "oneOf": [
                    schema_ref(schemas.ClassifyResponse),
                    schema_ref(schemas.EmbeddingResponse),
                ]
            },
            "examples": {
                "labels": {"value": {"model": "shapes-vit", "predictions": PREDICTIONS}},
                "embedding": {"value": {"model": "shapes-vit", "embedding": [0.31, -1.2, 0.08]}},
            },
        }
    },
    [
        TOP_K,
        parameter(
            "query",
            "output",
            "labels: the best labels; embedding: the vector that the head reads them from",
            {"type": "string", "enum": ["labels", "embedding"], "default": "labels"},
            "embedding",
        ),
    ],
)
SEGMENT = image_operation(
    {"image/png": BINARY}
    | json_content(
        schemas.SegmentResponse,
        {
            "model": "shapes-segformer",
            "width": 4,
            "height": 2,
            "segments": [
                {
                    "label": "background",
                    "index": 0,
                    "area": 8,
                    "fraction": 1.0,
                    "bbox": [0, 0, 4, 2],
                    "rle": {"size": [2, 4], "counts": "08"},
                }
            ],
            "mask": EXAMPLE_IMAGE,
        },
    ),
    [
        parameter(
            "query",
            "render",
            "mask: the class index is the pixel value; color: the class's colour; overlay: that "
            "colour laid over the photograph",
            {"type": "string", "enum": ["mask", "color", "overlay"], "default": "mask"},
            "overlay",
        )
    ],
)
EXPLAIN = image_operation(
    {"image/png": BINARY}
    | json_content(
        schemas.ExplainResponse,
        {
            "model": "shapes-vit",
            "method": "gradient",
            "predictions": PREDICTIONS,
            "relevance": [[0.1, 0.5], [0.1, 0.3]],
            "box": [0.0, 0.0, 640.0, 480.0],
            "attention_distance": [[14.2, 20.9], [18.8, 21.5]],
        },
    ),
    [
        TOP_K,
        parameter(
            "query",
            "method",
            "gradient: what speaks for the best label; rollout: what the head heeds, whichever "
            "label it speaks for",
            {"type": "string", "enum": ["gradient", "rollout"], "default": "gradient"},
            "rollout",
        ),
    ],
)
