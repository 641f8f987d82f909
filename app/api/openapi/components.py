"""Parts of the OpenAPI document that operations share: schemas, headers, problems, API keys."""

from collections.abc import Container
from http import HTTPStatus
from typing import Any

from pydantic.json_schema import models_json_schema

from app.api import schemas
from app.core import errors

Document = dict[str, Any]

REF = "#/components/schemas/{model}"
EXAMPLE_ID = "4d0b3f6c2a9e8f17"
EXAMPLE_IMAGE = (  # a red star on blue, 24 x 24 pixels: the bundled classifier says "star"
    "iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAQMAAADaua+7AAAABlBMVEWxPEMoPFpXkg0GAAAAS0lEQVR42mP8z8DAxMDA"
    "wMTwg4GJ4QOUfQdKMzAwMexjYHjAwM4kwMDBxMEgwMTGkMDwn+E/wz+GeoQaCQamf2kHGP78t2eEmwfBALu9DxV4Yhtw"
    "AAAAAElFTkSuQmCC"
)
EXAMPLE_MASK = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
IMAGES_TAG, MODELS_TAG, OPERATIONS_TAG = "Images", "Models", "Operations"
TAGS = [
    {"name": IMAGES_TAG, "description": "Send an image, get its labels, mask or explanation."},
    {"name": MODELS_TAG, "description": "What the service runs."},
    {
        "name": OPERATIONS_TAG,
        "description": "Probes, metrics for Prometheus, and the state of the service.",
    },
]
COMPONENTS = (
    schemas.ClassifyResponse,
    schemas.EmbeddingResponse,
    schemas.SegmentResponse,
    schemas.ExplainResponse,
    schemas.ModelsResponse,
    schemas.HealthResponse,
    schemas.StatusResponse,
    schemas.Problem,
)


def schema_ref(model: type[Any]) -> Document:
    """A reference to the schema of a model in `COMPONENTS`, or of a nested model."""
    return {"$ref": REF.format(model=model.__name__)}


def component_schemas() -> Document:
    """The JSON schemas that the references point to, by name."""
    _, definitions = models_json_schema(
        [(model, "serialization") for model in COMPONENTS], ref_template=REF
    )
    return dict(definitions["$defs"])


def json_content(model: type[Any], example: Any) -> Document:
    """The content of a JSON body with this model."""
    return {"application/json": {"schema": schema_ref(model), "example": example}}


def header(text: str, example: str) -> Document:
    """A response header."""
    return {"description": text, "schema": {"type": "string"}, "example": example}


REQUEST_ID = header("the id that the client sent, or a new one; the log has it too", EXAMPLE_ID)
SERVER_TIMING = header(
    "milliseconds of each stage, and the size of the batch",
    'read;dur=0.4, decode;dur=2.1, queue;dur=0.1, compute;dur=5.3, batch;desc="3"',
)
RETRY_AFTER = header("seconds after which a retry may succeed", "1")

COMMON_ERRORS = (
    errors.MalformedRequest,
    errors.UploadTooSlow,
    errors.HeadersTooLarge,
    errors.Internal,
)


def problems(*kinds: type[errors.ServiceError]) -> Document:
    """The responses of these errors and of `COMMON_ERRORS`, each with an example."""
    by_status: dict[int, list[type[errors.ServiceError]]] = {}
    members: tuple[type[errors.ServiceError], ...] = (*kinds, *COMMON_ERRORS)
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


def ok(content: Document) -> Document:
    """A response with status 200."""
    return {"description": "OK", "headers": {"X-Request-Id": REQUEST_ID}, "content": content}


def parameter(
    location: str, name: str, text: str, schema: Document, example: Any = None
) -> Document:
    """A parameter; the location is `query`, `path` or `header`.

    "Try it out" of /docs sends the example, or else the schema's default, so an optional parameter
    has no example: a request with nothing changed is then a request without parameters.
    """
    described = {"in": location, "name": name, "description": text, "schema": schema}
    return described if example is None else described | {"example": example}


def operation(tag: str, operation_id: str, summary: str, text: str = "") -> Document:
    """How an operation is listed; the id is stable, because generated clients name functions so.

    Without a text, the description is the docstring of the endpoint.
    """
    listed = {"tags": [tag], "operationId": operation_id, "summary": summary}
    return listed | ({"description": " ".join(text.split())} if text else {})


SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
ANY_SCHEME: list[Document] = [{name: []} for name in SCHEMES]


def add_security(document: Document, open_paths: Container[str]) -> Document:
    """Add the API keys to a document: all paths need one, except the open paths."""
    document["components"]["securitySchemes"] = SCHEMES
    refusal = problems(errors.Unauthorized)["401"]
    refusal["headers"]["WWW-Authenticate"] = header("how to send an API key", "Bearer")
    for path, operations in document["paths"].items():
        if path not in open_paths:
            for operation in operations.values():
                operation["security"] = ANY_SCHEME
                operation["responses"]["401"] = refusal
    return document
