"""Background work of the app: the metrics are published even if no client reads them."""

import asyncio

import pytest

from app.batching import lifespan
from app.batching.lifespan import publish_metrics
from app.observability.metrics import Metrics

pytestmark = pytest.mark.anyio

MODEL = "shapes-vit"


def published_images(metrics: Metrics) -> float | None:
    """The number of images in the registry, which another process may read."""
    labels = {"model": MODEL, "outcome": "ok"}
    return metrics.registry.get_sample_value("patchserve_images_total", labels)


async def test_recorded_metrics_are_published_repeatedly(monkeypatch):
    monkeypatch.setattr(lifespan, "PUBLISH_INTERVAL_S", 0.001)
    metrics = Metrics([MODEL])
    publishing = asyncio.create_task(publish_metrics(metrics))
    async with asyncio.timeout(30):
        for total in (1, 2):
            metrics.buffer.record(1, metrics.images, MODEL, "ok")
            while published_images(metrics) != total:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0.001)
    publishing.cancel()


async def test_the_last_metrics_are_published_at_the_end():
    metrics = Metrics([MODEL])
    publishing = asyncio.create_task(publish_metrics(metrics))
    await asyncio.sleep(0)
    metrics.buffer.record(1, metrics.images, MODEL, "ok")
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert published_images(metrics) == 1
