"""Dispatch: paths without parameters are looked up, the router handles all others."""

from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from app.api.routing import Dispatcher, Endpoint

pytestmark = pytest.mark.anyio


async def greet(request: Request) -> Response:
    """A greeting."""
    return Response("hello")


async def echo(request: Request) -> Response:
    """The body."""
    return Response(await request.body())


async def named(request: Request) -> Response:
    """The name in the path."""
    return Response(request.path_params["name"])


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    app.router.routes += [
        Endpoint("/greet", greet, methods=["GET"], response_class=Response),
        Endpoint("/greet", echo, methods=["POST"], response_class=Response),
        Endpoint("/named/{name}", named, methods=["GET"], response_class=Response),
    ]
    app.middleware_stack = Dispatcher(app.router)
    return app


@asynccontextmanager
async def client_of(app):
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        yield client


async def test_method_and_path_select_the_endpoint(app):
    async with client_of(app) as client:
        assert (await client.get("/greet")).text == "hello"
        assert (await client.post("/greet", content=b"hi")).content == b"hi"


async def test_a_path_with_a_parameter_is_routed(app):
    async with client_of(app) as client:
        assert (await client.get("/named/ViT")).text == "ViT"


async def test_an_unknown_path_or_method_raises_the_routers_error(app):
    async with client_of(app) as client:
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("GET", "/greet/", 404),
            ("PUT", "/greet", 405),
        ):
            with pytest.raises(HTTPException) as raised:
                await client.request(method, path)
            assert raised.value.status_code == status


@pytest.mark.parametrize("path", ["/greet", "/named/ViT"])
async def test_the_route_is_in_the_scope(app, path):
    seen = {}

    async def recording(scope, receive, send):
        await app(scope, receive, send)
        seen.update(scope)

    async with client_of(recording) as client:
        await client.get(path)
    assert isinstance(seen["route"], Endpoint)
    assert seen["route"].path.split("/")[1] == path.split("/")[1]


def test_the_openapi_document_equals_that_of_plain_routes(app):
    plain = FastAPI(redirect_slashes=False)
    plain.router.routes += [
        APIRoute(route.path, route.endpoint, methods=route.methods, response_class=Response)
        for route in app.router.routes
        if isinstance(route, Endpoint)
    ]
    assert app.openapi() == plain.openapi()
    assert set(app.openapi()["paths"]) == {"/greet", "/named/{name}"}
