"""Middleware that users add to the app: it wraps every response and costs nothing if absent."""

import asyncio

import pytest
from starlette.middleware.errors import ServerErrorMiddleware

from app.core.settings import Settings
from app.main import create_app

pytestmark = pytest.mark.anyio


class Recorder:
    """Pure ASGI middleware that records path and status, and adds a header."""

    def __init__(self, app, seen):
        self._app = app
        self._seen = seen

    async def __call__(self, scope, receive, send):
        async def record(message):
            if message["type"] == "http.response.start":
                self._seen.append((scope["path"], message["status"]))
                message["headers"].append((b"x-recorded", b"1"))
            await send(message)

        await self._app(scope, receive, record if scope["type"] == "http" else send)


async def test_added_middleware_sees_all_requests_and_responses(serve, picture):
    seen = []
    async with serve(
        customize=lambda app: app.add_middleware(Recorder, seen), ready=False
    ) as running:
        await running.until_ready()
        seen.clear()
        responses = [
            await running.client.post("/classify", content=picture()),
            await running.client.post("/classify", content=b""),
            await running.client.get("/nothing"),
        ]
    assert seen == [("/classify", 200), ("/classify", 400), ("/nothing", 404)]
    for response in responses:
        assert response.headers["x-recorded"] == "1"
        assert "x-request-id" in response.headers


async def test_a_function_added_as_http_middleware_wraps_requests(serve, picture):
    def customize(app):
        @app.middleware("http")
        async def refuse_or_mark(request, call_next):
            response = await call_next(request)
            response.headers["x-path"] = request.url.path
            return response

    async with serve(customize=customize) as running:
        good = await running.client.post("/classify", content=picture())
        bad = await running.client.post("/classify?top_k=x", content=picture())
        engine = running.engines["classify"]
        engine.run_gate.clear()
        late = await running.client.post(
            "/classify", content=picture(), headers={"X-Request-Timeout-Ms": "50"}
        )
        engine.run_gate.set()
        series = await running.series()
    assert [each.status_code for each in (good, bad, late)] == [200, 422, 504]
    assert {each.headers["x-path"] for each in (good, bad, late)} == {"/classify"}
    assert 'http_requests_total{code="504",method="POST",route="/classify"} 1.0' in series


async def test_several_added_layers_are_in_starlettes_order(serve):
    order = []

    class Named:
        def __init__(self, app, name):
            self._app, self._name = app, name

        async def __call__(self, scope, receive, send):
            if scope["type"] == "http":
                order.append(self._name)
            await self._app(scope, receive, send)

    def customize(app):
        app.add_middleware(Named, "inner")
        app.add_middleware(Named, "outer")

    async with serve(customize=customize) as running:
        order.clear()
        await running.client.get("/livez")
    assert order == ["outer", "inner"]


async def test_an_error_in_added_middleware_is_a_problem_with_a_request_id(serve, caplog):
    def customize(app):
        @app.middleware("http")
        async def fail(request, call_next):
            if request.url.path == "/models":
                raise ZeroDivisionError("secret")
            return await call_next(request)

    async with serve(customize=customize) as running:
        response = await running.client.get("/models", headers={"X-Request-Id": "find-me"})
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == response.json()["request_id"] == "find-me"
    assert "secret" not in response.text
    (record,) = [each for each in caplog.records if getattr(each, "request_id", "") == "find-me"]
    assert record.exc_info[0] is ZeroDivisionError


async def test_middleware_can_be_added_until_the_first_request_only(serve):
    apps = []
    async with serve(customize=apps.append):
        with pytest.raises(RuntimeError, match="after an application has started"):
            apps[0].add_middleware(Recorder, [])


def test_without_added_middleware_a_request_goes_directly_to_the_handler():
    app = create_app(Settings())
    assert app._entry is None
    app.middleware_stack = app.build_middleware_stack()
    assert isinstance(app.middleware_stack, ServerErrorMiddleware)
    assert app._entry is app.handler


@pytest.mark.parametrize("passed", [True, False], ids=["with state", "without state"])
async def test_the_state_is_found_on_every_server(picture, fake_engines, passed):
    """A server without the lifespan-state extension passes no state to requests or lifespan."""
    app = create_app(Settings(), fake_engines)
    to_app, from_app = asyncio.Queue(), asyncio.Queue()
    extension = {"state": {}} if passed else {}
    lifespan = asyncio.create_task(
        app({"type": "lifespan", "asgi": {"version": "3.0"}} | extension, to_app.get, from_app.put)
    )
    await to_app.put({"type": "lifespan.startup"})
    assert await from_app.get() == {"type": "lifespan.startup.complete"}
    assert set(app.state) >= {"deployments", "metrics", "limits", "shutdown", "pool"}
    first = {} if not passed else {"state": dict(extension["state"])}
    while await status_of(app, "GET", "/readyz", b"", first) != 200:  # noqa: ASYNC110
        await asyncio.sleep(0.001)  # the app has no event for it
    assert await status_of(app, "POST", "/classify", picture(), first) == 200
    assert "request_id" not in app.state
    assert "context" not in app.state
    await to_app.put({"type": "lifespan.shutdown"})
    assert await from_app.get() == {"type": "lifespan.shutdown.complete"}
    await lifespan


async def status_of(app, method: str, path: str, body: bytes, extra: dict) -> int:
    """Send one request to an app and return the status of the response."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    statuses = []

    async def receive():
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "server": ("test", 80),
        "client": ("test", 1),
        "scheme": "http",
    }
    await app({**scope, **{key: dict(value) for key, value in extra.items()}}, receive, send)
    (status,) = statuses
    return status
