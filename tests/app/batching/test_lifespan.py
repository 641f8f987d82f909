"""What runs beside the requests: here, that the series are published without being read."""

import asyncio

import pytest

from app.batching import lifespan
from app.batching.lifespan import measure_lag
from app.observability.metrics import Metrics

pytestmark = pytest.mark.anyio

MODEL = "shapes-vit"


def counted(metrics: Metrics) -> float | None:
    """How many images the registry shows, as whoever reads it elsewhere sees it."""
    labels = {"model": MODEL, "outcome": "ok"}
    return metrics.registry.get_sample_value("patchserve_images_total", labels)


async def test_what_was_noted_is_published_again_and_again(monkeypatch):
    monkeypatch.setattr(lifespan, "LAG_INTERVAL_S", 0.001)
    metrics = Metrics([MODEL])
    publishing = asyncio.create_task(measure_lag(metrics))
    async with asyncio.timeout(30):
        for total in (1, 2):
            metrics.buffer.record(1, metrics.images, MODEL, "ok")
            while counted(metrics) != total:  # noqa: ASYNC110  # nothing tells when
                await asyncio.sleep(0.001)
    publishing.cancel()


async def test_the_last_is_published_at_the_end():
    metrics = Metrics([MODEL])
    publishing = asyncio.create_task(measure_lag(metrics))
    await asyncio.sleep(0)
    metrics.buffer.record(1, metrics.images, MODEL, "ok")
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    assert counted(metrics) == 1
