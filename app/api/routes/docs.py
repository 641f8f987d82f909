"""GET /docs: the API documentation in a browser, by Swagger UI, without files of another host."""

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

from app.api import html
from app.api.routing import Endpoint

# Swagger UI sets style attributes, and shows images as data: and blob: URLs
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'self'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SUFFIXES = frozenset((".css", ".js", ".png"))


def make_router() -> APIRouter:
    """The routes of the documentation; Swagger UI's files come from a package."""
    router = APIRouter(route_class=Endpoint)
    files = StaticFiles(packages=[("app.api", "docs"), ("fastapi_swagger", "resources")])

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return html.page(request, "app.api.docs", "docs.html", POLICY)

    @router.get("/docs/{name}", include_in_schema=False)
    async def docs_file(request: Request) -> Response:
        return await html.file(request, files, SUFFIXES)

    return router
