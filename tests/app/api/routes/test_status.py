"""GET /status: readiness with progress, models, limits and traffic."""

from contextlib import asynccontextmanager

import pytest

from app.api.schemas import StatusResponse
from app.observability import traffic

pytestmark = pytest.mark.anyio


async def status_of(running) -> StatusResponse:
    response = (await running.client.get("/status")).raise_for_status()
    assert response.headers["cache-control"] == "no-store"
    return StatusResponse.model_validate_json(response.text)


async def test_a_service_that_is_ready_describes_its_models_and_limits(serve):
    async with serve(max_body_bytes=5000, image_formats="png", request_timeout_s=3) as running:
        status = await status_of(running)
    assert (status.ready, status.reasons, status.progress) == (True, [], 1.0)
    assert not status.key_required
    assert [model.task for model in status.models] == ["classify", "segment"]
    model = status.models[0]
    assert (model.status, model.device, model.labels, model.input_size) == (
        "ready",
        "cpu",
        4,
        [8, 8],
    )
    assert (status.limits.max_body_bytes, status.limits.image_formats) == (5000, ["png"])
    assert status.limits.request_timeout_s == 3


async def test_while_models_load_the_progress_and_the_reasons_are_shown(serve):
    def hold(engine):
        if engine.task == "segment":
            engine.load_gate.clear()

    async with serve(prepare=hold, ready=False) as running:

        async def first_is_warm():
            return (await status_of(running)).models[0].status == "warm"

        await running.until(first_is_warm)
        status = await status_of(running)
        running.engines["segment"].load_gate.set()
        await running.until_ready()
        assert (await status_of(running)).progress == 1.0
    assert (status.ready, status.progress) == (False, 0.5)
    assert status.reasons == ["shapes-vit is warm", "shapes-segformer is loading"]
    assert (status.models[0].device, status.models[1].device) == ("cpu", None)


async def test_the_traffic_counts_images_and_nothing_else(serve, picture, monkeypatch):
    monkeypatch.setattr(traffic, "MAX_AGE_S", 0.0)
    async with serve() as running:
        before = (await status_of(running)).traffic
        for _ in range(3):
            (await running.client.post("/classify", content=picture())).raise_for_status()
        await running.client.post("/segment", content=b"")
        await running.client.get("/models")
        after = (await status_of(running)).traffic
    assert (before.requests, before.errors, before.batches) == (0, 0, 0)
    assert (after.requests, after.errors) == (4, 1)
    assert (after.batches, after.batched_images) == (3, 3)
    assert (after.latency.le[-1], after.latency.counts[-1]) == (None, 4)
    assert after.latency.counts == sorted(after.latency.counts)
    assert after.in_flight == 1  # the request itself


async def test_it_says_that_a_key_is_needed_but_needs_none(serve):
    async with serve(api_keys="a-key-of-the-tests-0") as running:
        assert (await status_of(running)).key_required


async def test_it_is_there_when_the_probes_are_on_another_port(serve):
    @asynccontextmanager
    async def elsewhere(app, state):
        yield

    async with serve(serve_ops=elsewhere, ready=False) as running:
        assert (await running.client.get("/readyz")).status_code == 404

        async def ready():
            return (await status_of(running)).ready

        await running.until(ready)
