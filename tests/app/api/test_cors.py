"""CORS: off by default; otherwise on every response, including errors."""

import pytest

pytestmark = pytest.mark.anyio
PAGE = "https://shop.example"
ORIGIN = {"Origin": PAGE}
PREFLIGHT = ORIGIN | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-request-timeout-ms",
}
KEYS = {"api_keys": "a-key-of-the-tests-0"}


async def test_without_origins_no_cors_header_is_sent(serve, picture):
    async with serve() as running:
        response = await running.client.post("/classify", content=picture(), headers=ORIGIN)
        preflight = await running.client.options("/classify", headers=PREFLIGHT)
    assert preflight.status_code == 405
    for each in (response, preflight):
        assert not [name for name in each.headers if name.startswith("access-control")]


@pytest.mark.parametrize("allowed", [PAGE, f"http://localhost:3000, {PAGE}", "*"])
async def test_an_allowed_page_can_read_every_response(serve, picture, allowed):
    async with serve(cors_origins=allowed) as running:
        responses = [
            await running.client.post("/classify", content=picture(), headers=ORIGIN),
            await running.client.post("/classify", content=b"", headers=ORIGIN),
            await running.client.get("/nothing", headers=ORIGIN),
        ]
    assert [response.status_code for response in responses] == [200, 400, 404]
    for response in responses:
        assert response.headers["access-control-allow-origin"] == ("*" if allowed == "*" else PAGE)
        assert "X-Request-Id" in response.headers["access-control-expose-headers"]
        assert "x-request-id" in response.headers


async def test_a_401_can_be_read_and_a_preflight_needs_no_key(serve):
    async with serve(cors_origins=PAGE, **KEYS) as running:
        refused = await running.client.post("/classify", headers=ORIGIN)
        preflight = await running.client.options("/classify", headers=PREFLIGHT)
        series = await running.series()
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert "x-request-id" in preflight.headers
    assert 'http_requests_total{code="200",method="OPTIONS",route="unmatched"} 1.0' in series


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Access-Control-Request-Method": "DELETE"}]
)
async def test_a_preflight_that_is_not_allowed_is_refused(serve, headers):
    async with serve(cors_origins=PAGE) as running:
        response = await running.client.options("/classify", headers=PREFLIGHT | headers)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")
    assert "access-control-allow-origin" not in response.headers


async def test_another_page_gets_a_response_without_cors_headers(serve):
    async with serve(cors_origins=PAGE) as running:
        response = await running.client.get("/models", headers={"Origin": "https://evil.example"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "Origin"


async def test_options_without_an_origin_is_no_preflight(serve):
    async with serve(cors_origins=PAGE) as running:
        assert (await running.client.options("/classify")).status_code == 405
