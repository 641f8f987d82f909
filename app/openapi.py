"""Owns what /openapi.json says: bodies, parameters, answers and errors, each with an example.

Knows nothing of how a request is answered; a test holds it against the routes.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import models_json_schema

from app import errors, schemas

Document = dict[str, Any]

REF = "#/components/schemas/{model}"
EXAMPLE_ID = "4d0b3f6c2a9e8f17"
EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
COMPONENTS = (
    schemas.ImageRequest,
    schemas.ClassifyResponse,
    schemas.SegmentResponse,
    schemas.ModelsResponse,
    schemas.HealthResponse,
    schemas.Problem,
)


def schema_ref(model: type[Any]) -> Document:
    """A reference to the schema of a model in `COMPONENTS`, or of one inside them."""
    return {"$ref": REF.format(model=model.__name__)}


def component_schemas() -> Document:
    """The JSON schemas that the references point to."""
    _, definitions = models_json_schema(
        [(model, "serialization") for model in COMPONENTS], ref_template=REF
    )
    return dict(definitions["$defs"])


def _json(model: type[Any], example: Any) -> Document:
    return {"application/json": {"schema": schema_ref(model), "example": example}}


def _header(text: str, example: str) -> Document:
    return {"description": text, "schema": {"type": "string"}, "example": example}


REQUEST_ID = _header("the caller's, or a new one; it is in the log, too", EXAMPLE_ID)
SERVER_TIMING = _header(
    "milliseconds of each stage and the size of the batch",
    'read;dur=0.4, decode;dur=2.1, queue;dur=0.1, compute;dur=5.3, batch;desc="3"',
)
RETRY_AFTER = _header("seconds after which a retry may succeed", "1")


def _problems(*kinds: type[errors.ServiceError]) -> Document:
    """The answers of these errors, by status, with an example for each code."""
    by_status: dict[int, list[type[errors.ServiceError]]] = {}
    members: tuple[type[errors.ServiceError], ...] = (*kinds, errors.Internal)
    for kind in members:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": {"X-Request-Id": REQUEST_ID}
            | ({"Retry-After": RETRY_AFTER} if status == 503 else {}),
            "content": {
                "application/problem+json": {
                    "schema": schema_ref(schemas.Problem),
                    "examples": {kind.code: {"value": _example(kind)} for kind in group},
                }
            },
        }
        for status, group in by_status.items()
    }


def _example(kind: type[errors.ServiceError]) -> Document:
    detail = (kind.__doc__ or "").strip().splitlines()[0]
    return kind(detail, retry_after_s=0.4 if kind.status == 503 else None).problem(EXAMPLE_ID)


def _ok(content: Document) -> Document:
    return {"description": "OK", "headers": {"X-Request-Id": REQUEST_ID}, "content": content}


def _parameter(place: str, name: str, text: str, schema: Document, example: Any) -> Document:
    return {
        "in": place,
        "name": name,
        "description": text,
        "schema": schema,
        "example": example,
    }


BINARY = {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODY = {
    "required": True,
    "description": "One image: JPEG, PNG, WebP, GIF (its first frame), BMP or TIFF. Any content "
    "type but the first two means the bytes of the file; the format is read off the bytes.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
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
    _parameter(
        "header",
        "X-Request-Id",
        "an id to find the request by: letters, digits and _.:-",
        {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
        EXAMPLE_ID,
    ),
    _parameter(
        "header",
        "X-Request-Timeout-Ms",
        "milliseconds from the last body byte; may only shorten the server's own",
        {"type": "integer", "minimum": 1},
        2000,
    ),
]
IMAGE_ERRORS = (
    errors.EmptyBody,
    errors.MalformedRequest,
    errors.ModelNotLoaded,
    errors.PayloadTooLarge,
    errors.ImageTooLarge,
    errors.UnsupportedImageFormat,
    errors.InvalidImage,
    errors.InvalidParameter,
    errors.Overloaded,
    errors.NotReady,
    errors.DeadlineExceeded,
)


def _image_operation(
    content: Document, parameters: Sequence[Document], *more: type[errors.ServiceError]
) -> Document:
    answer = _ok(content)
    answer["headers"] |= {"Server-Timing": SERVER_TIMING}
    return {
        "requestBody": IMAGE_BODY,
        "parameters": [*parameters, *COMMON_PARAMETERS],
        "responses": {"200": answer} | _problems(*IMAGE_ERRORS, *more),
    }


CLASSIFY = _image_operation(
    _json(
        schemas.ClassifyResponse,
        {
            "model": "shapes-vit",
            "predictions": [
                {"label": "star", "index": 4, "score": 0.983},
                {"label": "cross", "index": 5, "score": 0.011},
            ],
        },
    ),
    [
        _parameter(
            "query",
            "top_k",
            "labels to return, at most as many as the model has; 5 if it has so many",
            {"type": "integer", "minimum": 1},
            2,
        )
    ],
    errors.NotAcceptable,
)
SEGMENT = _image_operation(
    {"image/png": BINARY}
    | _json(
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
        _parameter(
            "query",
            "render",
            "mask: the class index is the pixel value; color: the class's colour; overlay: that "
            "colour laid over the photograph",
            {"type": "string", "enum": ["mask", "color", "overlay"], "default": "mask"},
            "overlay",
        )
    ],
    errors.NotAcceptable,
)

_MODEL = {
    "name": "shapes-vit",
    "task": "classify",
    "status": "ready",
    "labels": ["circle", "square"],
    "input_size": [64, 64],
    "device": "cpu",
    "dtype": "float32",
    "parameters": 812006,
    "max_batch_size": 16,
    "batch_costs": [{"batch_size": 1, "seconds": 0.002}],
}
MODELS = {
    "responses": {"200": _ok(_json(schemas.ModelsResponse, {"models": [_MODEL]}))} | _problems()
}
MODEL = {
    "parameters": [
        {
            **_parameter("path", "name", "of the model", {"type": "string"}, "shapes-vit"),
            "required": True,
        }
    ],
    "responses": {"200": _ok(_json(schemas.ModelResponse, _MODEL))} | _problems(errors.NotFound),
}


def _probe(reason: str) -> Document:
    well = {"status": "ok", "reasons": [], "models": {"shapes-vit": "ready"}}
    ill = {"status": "unavailable", "reasons": [reason], "models": {"shapes-vit": "loading"}}
    return {
        "responses": {
            "200": _ok(_json(schemas.HealthResponse, well)),
            "503": _ok(_json(schemas.HealthResponse, ill)) | {"description": "Not now"},
        }
    }


HEALTH = {
    "livez": _probe("the thread of cpu is stuck"),
    "readyz": _probe("shapes-vit is loading"),
    "startupz": _probe("shapes-vit is warming_up"),
}
METRICS = {
    "responses": {
        "200": _ok(
            {"text/plain": {"schema": {"type": "string"}, "example": "patchserve_ready 1.0\n"}}
        )
    }
}
