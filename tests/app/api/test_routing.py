"""How a request finds its endpoint: at once where the path says all, by the router elsewhere."""

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


async def test_the_method_and_the_path_decide_on_the_endpoint(app):
    async with client_of(app) as client:
        assert (await client.get("/greet")).text == "hello"
        assert (await client.post("/greet", content=b"someone")).content == b"someone"


async def test_a_path_with_a_parameter_goes_by_the_router(app):
    async with client_of(app) as client:
        assert (await client.get("/named/ViT")).text == "ViT"


async def test_what_has_no_endpoint_raises_the_routers_error(app):
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
async def test_the_scope_knows_the_route_afterwards(app, path):
    seen = {}

    async def remembering(scope, receive, send):
        await app(scope, receive, send)
        seen.update(scope)

    async with client_of(remembering) as client:
        await client.get(path)
    assert isinstance(seen["route"], Endpoint)
    assert seen["route"].path.split("/")[1] == path.split("/")[1]


def test_the_document_is_the_one_of_a_plain_route(app):
    plain = FastAPI(redirect_slashes=False)
    plain.router.routes += [
        APIRoute(route.path, route.endpoint, methods=route.methods, response_class=Response)
        for route in app.router.routes
        if isinstance(route, Endpoint)
    ]
    assert app.openapi() == plain.openapi()
    assert set(app.openapi()["paths"]) == {"/greet", "/named/{name}"}
