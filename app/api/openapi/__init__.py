"""The OpenAPI document: bodies, parameters, responses and errors, each with an example."""

from app.api.openapi.components import COMPONENTS, TAGS, add_security, component_schemas
from app.api.openapi.images import CLASSIFY, EXPLAIN, SEGMENT
from app.api.openapi.service import HEALTH, METRICS, MODEL, MODELS, ROOT, STATUS

__all__ = [
    "CLASSIFY",
    "COMPONENTS",
    "EXPLAIN",
    "HEALTH",
    "METRICS",
    "MODEL",
    "MODELS",
    "ROOT",
    "SEGMENT",
    "STATUS",
    "TAGS",
    "add_security",
    "component_schemas",
]
