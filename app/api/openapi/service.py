"""OpenAPI of the models, the probes and /metrics."""

from app.api import schemas
from app.api.openapi.components import (
    MODELS_TAG,
    OPERATIONS_TAG,
    Document,
    json_content,
    ok,
    operation,
    parameter,
    problems,
)
from app.core import errors

_MODEL = {
    "name": "shapes-vit",
    "task": "classify",
    "status": "ready",
    "labels": ["circle", "square"],
    "input_size": [64, 64],
    "device": "cpu",
    "dtype": "float32",
    "runtime": "torch",
    "parameters": 812006,
    "assumptions": [],
    "max_batch_size": 16,
    "batch_costs": [{"lane": "wide", "batch_size": 1, "seconds": 0.002}],
}
MODELS = operation(MODELS_TAG, "models", "All models") | {
    "responses": {"200": ok(json_content(schemas.ModelsResponse, {"models": [_MODEL]}))}
    | problems()
}
MODEL = operation(MODELS_TAG, "model", "One model") | {
    "parameters": [
        {
            **parameter("path", "name", "name of the model", {"type": "string"}, "shapes-vit"),
            "required": True,
        }
    ],
    "responses": {"200": ok(json_content(schemas.ModelResponse, _MODEL))}
    | problems(errors.NotFound),
}


def _probe(name: str, summary: str, reason: str) -> Document:
    success = {"status": "ok", "reasons": [], "models": {"shapes-vit": "ready"}}
    failure = {"status": "unavailable", "reasons": [reason], "models": {"shapes-vit": "loading"}}
    return operation(OPERATIONS_TAG, name, summary) | {
        "responses": {
            "200": ok(json_content(schemas.HealthResponse, success)),
            "503": ok(json_content(schemas.HealthResponse, failure))
            | {"description": "Unavailable"},
        }
        | problems()
    }


HEALTH = {
    "livez": _probe("livez", "Is it alive, or must it be restarted?", "the thread of cpu is stuck"),
    "readyz": _probe("readyz", "Can it answer requests now?", "shapes-vit is loading"),
    "health": _probe("health", "Another name of /readyz", "shapes-vit is loading"),
    "startupz": _probe("startupz", "Has it started?", "shapes-vit is warming_up"),
}
METRICS = operation(OPERATIONS_TAG, "metrics", "Metrics for Prometheus") | {
    "responses": {
        "200": ok(
            {"text/plain": {"schema": {"type": "string"}, "example": "patchserve_ready 1.0\n"}}
        )
    }
    | problems()
}
ROOT = operation(OPERATIONS_TAG, "root", "Page, or a sign of life") | {
    "responses": {
        "200": ok(
            {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["status"],
                        "properties": {"status": {"type": "string", "const": "alive"}},
                    },
                    "example": {"status": "alive"},
                },
                "text/html": {"schema": {"type": "string"}},
            }
        )
    }
    | problems()
}
STATUS = operation(OPERATIONS_TAG, "status", "State of the service for the page") | {
    "responses": {
        "200": ok(
            json_content(
                schemas.StatusResponse,
                {
                    "version": "0.1.0",
                    "ready": True,
                    "reasons": [],
                    "progress": 1.0,
                    "key_required": False,
                    "time": 8123.25,
                    "models": [
                        {
                            "name": "shapes-vit",
                            "task": "classify",
                            "status": "ready",
                            "device": "cpu",
                            "dtype": "float32",
                            "runtime": "torch",
                            "parameters": 812006,
                            "assumptions": [],
                            "max_batch_size": 16,
                            "labels": 6,
                            "input_size": [64, 64],
                            "problem_type": "single_label_classification",
                        }
                    ],
                    "limits": {
                        "max_body_bytes": 20971520,
                        "max_image_pixels": 50000000,
                        "request_timeout_s": 30.0,
                        "image_formats": ["jpeg", "png"],
                    },
                    "traffic": {
                        "requests": 12,
                        "errors": 1,
                        "latency": {"le": [0.005, 0.01, None], "counts": [8, 12, 12]},
                        "batches": 9,
                        "batched_images": 11,
                        "queue_depth": 0,
                        "in_flight": 1,
                    },
                },
            )
        )
    }
    | problems()
}
