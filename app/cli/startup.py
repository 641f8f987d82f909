"""Says when the service is ready, what it serves, and where."""

import logging
import sys
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any

from app.api.routes.status import describe
from app.batching.deployment import Deployment
from app.core.process import age_s
from app.core.settings import Settings

logger = logging.getLogger(__name__)


def announce_ready(
    settings: Settings, address: str, deployments: Collection[Deployment], *, first: bool = True
) -> None:
    """Log that a replica is ready: a block of text on a terminal, fields elsewhere.

    Args:
        settings: of the service.
        address: of the service, as a URL without a path.
        deployments: the models.
        first: whether it is the first or only replica; the others repeat no block.
    """
    addresses = {"docs": f"{address}{settings.root_path}/docs"}
    if settings.playground:
        addresses = {"page": f"{address}{settings.root_path}/"} | addresses
    models = [
        describe(each).model_dump(exclude_none=True) | {"assumptions": list(each.info.assumptions)}
        for each in deployments
    ]
    age = age_s()
    ready = "ready" if age is None else f"ready in {age:.1f} s"
    if not sys.stderr.isatty():
        fields = {"version": version("patchserve"), "models": models, **addresses}
        logger.info("%s", ready, extra=fields)
        return
    if not first:
        logger.info("%s", ready)
        return
    rows = [(str(model["task"]), in_words(model)) for model in models]
    rows += [
        ("note", f"{model['name']}: {text}") for model in models for text in model["assumptions"]
    ]
    rows += [(name, url) for name, url in addresses.items()]
    lines = "".join(f"\n    {name:<10}{text}" for name, text in rows)
    logger.info("patchserve %s is %s%s", version("patchserve"), ready, lines)


def in_words(model: Mapping[str, Any]) -> str:
    """What a model runs on, and its batch limit, on one line."""
    return (
        "{name}: {labels} labels, {dtype} on {device} by {runtime}, "
        "batches of up to {max_batch_size}".format_map(model)
    )
