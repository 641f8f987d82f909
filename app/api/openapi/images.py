"""OpenAPI of POST /classify, /segment and /explain."""

from collections.abc import Sequence

from app.api import schemas
from app.api.drawing import MAX_TOLERANCE, TOLERANCE
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
from app.imaging.overlay import AUTO, OPACITY

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
            "threshold",
            "lowest score of a label that is returned, from 0 to 1; the list may be empty. Not for "
            "output=embedding and regressions",
            {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
            0.5,
        ),
        parameter(
            "query",
            "output",
            "labels: the best labels; embedding: the input vector of the classifier's head",
            {"type": "string", "enum": ["labels", "embedding"], "default": "labels"},
            "embedding",
        ),
    ],
)
DRAWING = [
    parameter(
        "query",
        "opacity",
        "of the colors, only with render=overlay",
        {"type": "number", "minimum": 0, "maximum": 1, "default": OPACITY},
        OPACITY,
    ),
    parameter(
        "query",
        "background",
        "the class where an overlay leaves the image as it is, only with render=overlay. auto: the "
        "first class if its label says that it is a background; none: no class; otherwise a label "
        "or an index",
        {"type": "string", "minLength": 1, "default": AUTO},
        AUTO,
    ),
    parameter(
        "query",
        "polygons",
        "true: each segment has its outline as polygons, only with Accept: application/json",
        {"type": "boolean", "default": False},
        True,
    ),
    parameter(
        "query",
        "tolerance",
        "largest distance of the pixel edges from the polygons in pixels, only with polygons=true; "
        "0: every corner of the pixel edges",
        {"type": "number", "minimum": 0, "maximum": MAX_TOLERANCE, "default": TOLERANCE},
        TOLERANCE,
    ),
]
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
                    "color": "#000000",
                    "area": 8,
                    "fraction": 1.0,
                    "bbox": [0, 0, 4, 2],
                    "rle": {"size": [2, 4], "counts": "08"},
                    "polygons": [[0, 0, 4, 0, 4, 2, 0, 2]],
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
            "this color drawn over the image",
            {"type": "string", "enum": ["mask", "color", "overlay"], "default": "mask"},
            "overlay",
        ),
        *DRAWING,
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
