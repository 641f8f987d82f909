"""Owns the description of the API keys: how they are sent, and what is answered without one.

Knows nothing of which there are.
"""

from collections.abc import Container

from app.api.openapi.components import Document, header, problems
from app.core import errors

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
EITHER: list[Document] = [{name: []} for name in SCHEMES]


def secured(document: Document, free: Container[str]) -> Document:
    """The document of a service with API keys, which all paths but the free ones ask for."""
    document["components"]["securitySchemes"] = SCHEMES
    refusal = problems(errors.Unauthorized)["401"]
    refusal["headers"]["WWW-Authenticate"] = header("how to send one", "Bearer")
    for path, operations in document["paths"].items():
        if path not in free:
            for operation in operations.values():
                operation["security"] = EITHER
                operation["responses"]["401"] = refusal
    return document
