"""OpenAPI of POST /classify, /segment and /explain."""

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
from app.api.schemas import MAX_TIMEOUT_MS
from app.core import errors

BINARY = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
BASE64 = {
    "type": "string",
    "format": "byte",
    "minLength": 1,
    "description": "the image file as base64, or as a base64 data: URI",
}
BODY = """\
One image: JPEG, PNG, WebP, GIF (the first frame), BMP or TIFF, unless the service accepts fewer
formats. With any content type except the first two, the body is the image file itself. The format
is detected from the bytes. A form or JSON may contain the parameters of the query instead of the
query."""


def image_body(parameters: Sequence[Document]) -> Document:
    """The request body: an image, with these parameters beside it in a form or JSON."""
    beside = {each["name"]: each["schema"] for each in parameters}
    json = _object({"image": BASE64} | beside) | {"example": {"image": EXAMPLE_IMAGE}}
    return {
        "required": True,
        "description": " ".join(BODY.split()),
        "content": {
            "multipart/form-data": {"schema": _object({"file": BINARY["schema"]} | beside)},
            "application/json": {"schema": json},
            "application/octet-stream": BINARY,
            "image/*": BINARY,
        },
    }


def _object(properties: Document) -> Document:
    """The schema of an object with these members, of which the first is required."""
    return {
        "type": "object",
        "required": list(properties)[:1],
        "properties": properties,
        "additionalProperties": False,
    }


COMMON_PARAMETERS = [
    parameter(
        "header",
        "X-Request-Id",
        "id of the request in the log and the response: 1 to 128 letters, digits and _.:-; "
        "any other value is replaced by a new id",
        {"type": "string"},
        EXAMPLE_ID,
    ),
    parameter(
        "header",
        "X-Request-Timeout-Ms",
        "deadline in milliseconds after the last body byte; it can only shorten the server's own",
        {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
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
    """An operation on an image; the parameters of all image operations are added."""
    success = ok(content)
    success["headers"] |= {"Server-Timing": SERVER_TIMING}
    return {
        "requestBody": image_body(parameters),
        "parameters": [*parameters, *COMMON_PARAMETERS],
        "responses": {"200": success} | problems(*IMAGE_ERRORS),
    }


TOP_K = parameter(
    "query",
    "top_k",
    "number of labels to return, at most as many as the model has; 5 by default, or fewer if the "
    "model has fewer",
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
            "labels: the best labels; embedding: the input vector of the classifier's head",
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
                    "confidence": 0.97,
                }
            ],
            "mask": EXAMPLE_IMAGE,
        },
    ),
    [
        parameter(
            "query",
            "render",
            "mask: the pixel value is the class index; color: the color of the class; overlay: "
            "this color drawn over the image; confidence: the probability of the pixel's class as "
            "gray, 255 is 1",
            {
                "type": "string",
                "enum": ["mask", "color", "overlay", "confidence"],
                "default": "mask",
            },
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
            "gradient: relevance for the best label; rollout: attention that reaches the head, "
            "regardless of the label",
            {"type": "string", "enum": ["gradient", "rollout"], "default": "gradient"},
            "rollout",
        ),
    ],
)
