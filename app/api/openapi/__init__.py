"""Owns what /openapi.json says: bodies, parameters, answers and errors, each with an example.

Knows nothing of how a request is answered; a test holds it against the routes.
"""

from app.api.openapi.components import COMPONENTS, component_schemas, secured
from app.api.openapi.images import CLASSIFY, EXPLAIN, SEGMENT
from app.api.openapi.service import HEALTH, METRICS, MODEL, MODELS

__all__ = [
    "CLASSIFY",
    "COMPONENTS",
    "EXPLAIN",
    "HEALTH",
    "METRICS",
    "MODEL",
    "MODELS",
    "SEGMENT",
    "component_schemas",
    "secured",
]
