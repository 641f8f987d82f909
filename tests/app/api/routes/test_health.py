"""The probes and /metrics: they report the real state, and never wait for an image."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.anyio


async def test_probes_support_head(serve):
    async with serve() as running:
        for probe in ("/health", "/livez", "/readyz", "/startupz", "/metrics"):
            assert (await running.client.head(probe)).status_code == 200


async def test_health_is_another_name_of_readyz(serve):
    async with serve(lambda engine: engine.load_gate.clear(), ready=False) as running:
        health, readyz = [await running.client.get(path) for path in ("/health", "/readyz")]
        assert (health.status_code, health.json()) == (503, readyz.json())
        for engine in running.engines.values():
            engine.load_gate.set()
        await running.until_ready()
        health, readyz = [await running.client.get(path) for path in ("/health", "/readyz")]
        assert (health.status_code, health.json()) == (200, readyz.json())
        counted = 'http_requests_total{code="200",method="GET",route="/health"} 1.0'
        assert counted in await running.series()


async def test_while_models_load_only_livez_is_200(serve, picture):
    async with serve(lambda engine: engine.load_gate.clear(), ready=False) as running:
        get = running.client.get
        assert (await get("/livez")).status_code == 200
        for probe in ("/startupz", "/readyz"):
            response = await get(probe)
            assert response.status_code == 503
            assert response.json()["status"] == "unavailable"
            assert response.json()["models"]["shapes-segformer"] == "waiting"
        refused = await running.client.post("/classify", content=picture())
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert refused.headers["retry-after"] == "1"
        listed = (await get("/models")).json()["models"]
        assert {model["status"] for model in listed} <= {"waiting", "loading"}
        for engine in running.engines.values():
            engine.load_gate.set()
        await running.until_ready()
        assert (await get("/startupz")).json() == {
            "status": "ok",
            "reasons": [],
            "models": {"shapes-vit": "ready", "shapes-segformer": "ready"},
        }


async def test_probes_respond_while_the_device_is_busy(serve, picture):
    async with serve() as running:
        engine = running.engines["classify"]
        engine.run_gate.clear()
        busy = asyncio.create_task(running.client.post("/classify", content=picture()))
        await asyncio.to_thread(engine.entered.wait, 30)
        for probe in ("/livez", "/readyz", "/startupz", "/metrics"):
            assert (await running.client.get(probe)).status_code == 200
        engine.run_gate.set()
        assert (await busy).status_code == 200


async def test_a_model_that_cannot_be_loaded_is_fatal_and_never_ready(serve):
    errors = []

    def break_load(engine):
        engine.load_error = ValueError("no such checkpoint")

    async with serve(break_load, errors.append, ready=False) as running:
        await running.until(lambda: has_any(errors))
        response = await running.client.get("/readyz")
    assert response.status_code == 503
    assert "shapes-vit is failed" in response.json()["reasons"]
    assert [str(error) for error in errors] == ["no such checkpoint"]


@pytest.mark.parametrize("which", [0, -1], ids=["the first lane", "the last lane"])
async def test_a_service_with_a_dead_lane_is_neither_ready_nor_alive(serve, which):
    async with serve() as running:
        lane = running.state["deployments"]["classify"].scheduler.lanes[which]
        await asyncio.to_thread(lane.call, lambda: int)  # the thread starts with its first work
        lane.close()
        await asyncio.to_thread(lane._thread.join, 30)
        for probe in ("/livez", "/readyz"):
            response = await running.client.get(probe)
            assert response.status_code == 503
            assert any("has ended" in reason for reason in response.json()["reasons"])


async def test_a_service_with_a_stuck_lane_is_not_alive(serve, monkeypatch):
    async with serve() as running:
        lane = running.state["deployments"]["classify"].scheduler.wide
        monkeypatch.setattr(lane, "busy_for", lambda: 31.0)
        response = await running.client.get("/livez")
    assert response.status_code == 503
    assert "stuck" in response.json()["reasons"][0]


async def test_while_the_other_model_loads_a_warm_model_is_alive_but_refuses_requests(
    serve, picture
):
    def hold_the_segmenter(engine):
        if engine.task == "segment":
            engine.load_gate.clear()

    async with serve(hold_the_segmenter, ready=False) as running:
        deployments = running.state["deployments"]

        async def loading() -> bool:
            return deployments["segment"].status == "loading"

        await running.until(loading)
        assert deployments["classify"].status == "warm"
        deployments["classify"].scheduler.wide.stuck_after_s = 0.0
        assert (await running.client.get("/livez")).status_code == 200
        assert (await running.client.get("/readyz")).status_code == 503
        early = await running.client.post("/classify", content=picture())
        assert (early.status_code, early.json()["code"]) == (503, "not_ready")


async def test_a_service_with_a_stopped_queue_is_neither_ready_nor_alive(serve):
    async with serve() as running:
        batcher = running.state["deployments"]["segment"].batcher
        await batcher.__aexit__(None, None, None)
        for probe in ("/livez", "/readyz"):
            response = await running.client.get(probe)
            assert response.status_code == 503
            assert response.json()["reasons"] == ["the queue of shapes-segformer has stopped"]


async def test_metrics_parse_and_have_the_right_counts(serve, picture):
    async with serve() as running:
        for colour in ("red", "green", "blue"):
            await running.client.post("/classify", content=picture(colour))
        await running.client.post("/segment", content=b"nonsense")
        text = await running.series()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["patchserve_images_total", "ok", "shapes-vit"] == 3
    assert samples["patchserve_images_total", "shapes-segformer", "unsupported_image_format"] == 1
    assert samples["patchserve_batch_size_sum", "shapes-vit"] == 3
    assert samples["patchserve_http_requests_total", *sorted(["/classify", "200", "POST"])] == 3
    assert samples["patchserve_ready",] == 1
    assert samples["patchserve_device_memory_bytes", "allocated", "cpu"] == 42
    assert samples["patchserve_device_busy_seconds_total", "cpu"] > 0


async def has_any(errors: list[Exception]) -> bool:
    return bool(errors)


async def test_a_service_in_shutdown_is_alive_but_not_ready(serve, picture):
    async with serve(lame_duck_s=60) as running:
        running.state["shutdown"].begin()
        response = await running.client.get("/readyz")
        assert (response.status_code, response.json()["reasons"]) == (503, ["draining"])
        for probe in ("/livez", "/startupz"):
            assert (await running.client.get(probe)).status_code == 200
        series = await running.series()
        assert "patchserve_draining 1.0" in series
        assert "patchserve_ready 0.0" in series
        response = await running.client.post("/classify", content=picture())
        assert response.status_code == 200


async def test_a_service_that_cannot_continue_is_neither_ready_nor_alive(serve, picture):
    async with serve() as running:
        running.state["shutdown"].fail()
        for probe in ("/livez", "/readyz"):
            response = await running.client.get(probe)
            assert response.status_code == 503
            assert "cannot continue" in response.json()["reasons"][0]
        refused = await running.client.post("/classify", content=picture())
    assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")


async def test_a_warm_model_names_the_model_that_it_waits_for(serve, picture):
    def hold_the_segmenter(engine) -> None:
        if engine.task == "segment":
            engine.load_gate.clear()

    async with serve(hold_the_segmenter, ready=False) as running:
        warm = "the model shapes-vit is warm, but shapes-segformer still loads"

        async def refused() -> bool:
            response = await running.client.post("/classify", content=picture())
            assert response.status_code == 503
            return response.json()["detail"] == warm

        await running.until(refused)
        running.engines["segment"].load_gate.set()
        await running.until_ready()
        assert (await running.client.post("/classify", content=picture())).status_code == 200
