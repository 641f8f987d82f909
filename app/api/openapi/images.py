"""OpenAPI of POST /classify, /segment and /explain."""

from collections.abc import Sequence

from app.api import schemas
from app.api.drawing import MAX_TOLERANCE, TOLERANCE
from app.api.openapi.components import (
    EXAMPLE_IMAGE,
    EXAMPLE_MASK,
    IMAGES_TAG,
    SERVER_TIMING,
    Document,
    json_content,
    ok,
    operation,
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
One image: JPEG, PNG, WebP, GIF (the first frame), BMP or TIFF, unless the service accepts other
formats. With any content type except the first two, the body is the image file itself. The format
is detected from the bytes. A form or JSON may contain the parameters of the query instead of the
query."""


def image_body(parameters: Sequence[Document]) -> Document:
    """The request body: an image, with these parameters beside it in a form or JSON.

    The form is first, because /docs shows a button that chooses its file. Its schema leaves out the
    parameters, and that of JSON their defaults: /docs would send them in the body and in the query,
    which is refused.
    """
    beside = {each["name"]: _without_default(each["schema"]) for each in parameters}
    json = _object({"image": BASE64} | beside) | {"example": {"image": EXAMPLE_IMAGE}}
    return {
        "required": True,
        "description": " ".join(BODY.split()),
        "content": {
            "multipart/form-data": {"schema": _object({"file": BINARY["schema"]})},
            "application/json": {"schema": json},
            "application/octet-stream": BINARY,
            "image/*": BINARY,
        },
    }


def _without_default(schema: Document) -> Document:
    return {name: value for name, value in schema.items() if name != "default"}


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
    ),
    parameter(
        "header",
        "X-Request-Timeout-Ms",
        "deadline in milliseconds after the last body byte; it can only shorten the server's own",
        {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
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
)
PREDICTIONS = [
    {"label": "star", "index": 4, "score": 0.983},
    {"label": "cross", "index": 5, "score": 0.011},
]
CLASSIFY = operation(
    IMAGES_TAG,
    "classify",
    "Labels of an image",
    """The labels of an image, best first, or with output=embedding the vector from which the
    classifier computes them.""",
) | image_operation(
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
        ),
        parameter(
            "query",
            "output",
            "labels: the best labels; embedding: the input vector of the classifier's head",
            {"type": "string", "enum": ["labels", "embedding"], "default": "labels"},
        ),
    ],
)
# no defaults: Swagger UI would send them, and they are refused where they mean nothing
DRAWING = [
    parameter(
        "query",
        "opacity",
        f"of the colors, {OPACITY} by default; only with render=overlay",
        {"type": "number", "minimum": 0, "maximum": 1},
    ),
    parameter(
        "query",
        "background",
        f"the class where an overlay leaves the image as it is, {AUTO} by default; only with "
        "render=overlay. auto: the first class if its label says that it is a background; none: no "
        "class; otherwise a label or an index",
        {"type": "string", "minLength": 1},
    ),
    parameter(
        "query",
        "polygons",
        "true: each segment has its outline as polygons, only with Accept: application/json",
        {"type": "boolean", "default": False},
    ),
    parameter(
        "query",
        "tolerance",
        f"largest distance of the pixel edges from the polygons in pixels, {TOLERANCE:g} by "
        "default; only with polygons=true; 0: every corner of the pixel edges",
        {"type": "number", "minimum": 0, "maximum": MAX_TOLERANCE},
    ),
]
SEGMENT = operation(
    IMAGES_TAG,
    "segment",
    "Mask of an image",
    """The class of each pixel: a PNG of the image's size, or with Accept: application/json the
    classes, their areas and boxes, and the PNG.""",
) | image_operation(
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
                    "confidence": 0.97,
                }
            ],
            "background": 0,
            "mask": EXAMPLE_MASK,
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
        ),
        *DRAWING,
    ],
)
EXPLAIN = operation(
    IMAGES_TAG,
    "explain",
    "What the classifier looks at",
    """The relevance of each region for the best label: drawn over the image as a PNG, or with
    Accept: application/json as numbers.""",
) | image_operation(
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
            "gradient: the attention that increases the score of the best label; rollout: all "
            "attention that reaches the head, whatever the label. gradient is the better one: "
            "without the regions that it finds, the label loses most of its probability",
            {"type": "string", "enum": ["gradient", "rollout"], "default": "gradient"},
        ),
    ],
)
