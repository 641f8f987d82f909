"""The app: which routes need an API key, and what the OpenAPI document says about it."""

from contextlib import asynccontextmanager

import httpx
import pytest

from app.api import application
from app.api.application import PATHS_WITHOUT_KEY

pytestmark = pytest.mark.anyio
KEY = "a-key-of-the-tests-0"
ENV = {"api_keys": f"{KEY}, another-key-of-the-tests"}
SENT = {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize("path", ["/classify", "/segment", "/explain"])
async def test_an_image_without_a_key_is_refused_before_the_body_is_read(serve, path):
    async def endless():
        yield b"x"
        raise AssertionError("the body was read")

    async with serve(**ENV) as running:
        response = await running.client.post(path, content=endless())
        series = await running.series()
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert f'http_requests_total{{code="401",method="POST",route="{path}"}} 1.0' in series


@pytest.mark.parametrize(
    "path",
    ["/models", "/models/shapes-vit", "/nothing", "/livez/", "/playgrounds", "/docs-internal"],
)
async def test_other_and_unknown_paths_without_a_key_are_refused(serve, path):
    async with serve(**ENV) as running:
        assert (await running.client.get(path)).status_code == 401
        assert (await running.client.get(path, headers=SENT)).status_code in (200, 404)


@pytest.mark.parametrize("path", sorted(PATHS_WITHOUT_KEY))
async def test_probes_metrics_and_docs_need_no_key(serve, path):
    async with serve(**ENV) as running:
        assert (await running.client.get(path)).status_code == 200


@pytest.mark.parametrize("headers", [SENT, {"X-API-Key": "another-key-of-the-tests"}])
async def test_an_image_with_any_of_the_keys_is_classified(serve, picture, headers):
    async with serve(**ENV) as running:
        response = await running.client.post("/classify", content=picture(), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("prefix", ["/playground", "/docs"])
@pytest.mark.parametrize("route", ["/classify", "/models/shapes-vit/classify", "/models"])
async def test_a_prefix_like_that_of_the_pages_needs_no_less_keys(serve, picture, prefix, route):
    async with serve(**ENV, root_path=prefix) as running:
        for path in (route, prefix + route, 2 * prefix + route, 3 * prefix + route):
            response = await running.client.post(path, content=picture())
            assert response.status_code in (401, 404, 405), path
            response = await running.client.get(path)
            assert response.status_code in (401, 404, 405), path
        script = await running.client.get(f"{prefix}/docs/docs.js")
    assert script.status_code == 200


async def test_a_prefix_is_removed_from_a_path_only_once(serve):
    async with serve(root_path="/vision") as running:
        for path in ("/status", "/models/shapes-vit", "/playground/samples", "/openapi.json"):
            assert (await running.client.get(f"/vision{path}")).status_code == 200
            assert (await running.client.get(f"/vision/vision{path}")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/docs/docs.js", "/playground/samples", "/playground/samples/scene-0014.png"]
)
async def test_the_files_of_the_pages_need_no_key(serve, path):
    async with serve(**ENV) as running:
        assert (await running.client.get(path)).status_code == 200


async def test_the_document_has_security_only_if_there_are_keys(serve):
    async with serve() as running:
        plain = (await running.client.get("/openapi.json")).json()
    async with serve(**ENV) as running:
        guarded = (await running.client.get("/openapi.json")).json()
    assert "securitySchemes" not in plain["components"]
    assert "401" not in plain["paths"]["/classify"]["post"]["responses"]
    schemes = guarded["components"]["securitySchemes"]
    assert schemes["bearer"] == {"type": "http", "scheme": "bearer"}
    assert schemes["apiKey"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    for path, operations in guarded["paths"].items():
        for operation in operations.values():
            assert ("401" in operation["responses"]) is (path not in PATHS_WITHOUT_KEY)
            assert ("security" in operation) is (path not in PATHS_WITHOUT_KEY)


async def test_the_ops_app_has_the_probes_and_the_same_state(serve, picture):
    served = {}

    @asynccontextmanager
    async def serve_ops(app, state):
        served.update(app=app, state=state)
        yield
        served["ended"] = True

    async with serve(serve_ops=serve_ops, ready=False, **ENV) as running:

        async def ops(scope, receive, send):
            await served["app"]({**scope, "state": dict(served["state"])}, receive, send)

        transport = httpx.ASGITransport(ops, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:

            async def ready():
                return (await client.get("/readyz")).status_code == 200

            await running.until(ready)
            await running.client.post("/classify", content=picture(), headers=SENT)
            series = (await client.get("/metrics")).text
            missing = await client.post("/classify")
            hidden = await client.get("/docs")
        for path in ("/health", "/livez", "/readyz", "/startupz", "/metrics"):
            assert (await running.client.get(path, headers=SENT)).status_code == 404
        document = (await running.client.get("/openapi.json")).json()
        assert "ended" not in served
    assert served["ended"]
    assert 'http_requests_total{code="200",method="POST",route="/classify"} 1.0' in series
    assert 'http_request_duration_seconds_count{route="/startupz"} 0.0' in series
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert hidden.status_code == 404
    assert "/livez" not in document["paths"]


def test_every_open_path_is_a_route():
    page = application.Playground()
    app = application.build_app(None, application.Metrics(), application.Shutdown(0, 0), page=page)
    assert {route.path for route in app.routes} >= PATHS_WITHOUT_KEY
