"""GET /: the page to try the models, or that the service is alive; its files, and sample images."""

import asyncio
from contextlib import suppress
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json
from starlette.staticfiles import StaticFiles

from app.api import html, openapi, params
from app.api.params import headers_of
from app.api.routing import Endpoint
from app.core.types import IMAGE_SUFFIXES

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
PACKAGE = "app.api.playground"
SAMPLES = Path(__file__).parents[1] / "playground" / "samples"
PAGE_SUFFIXES = frozenset((".css", ".js"))
MAX_SAMPLES = 24  # that are listed: the page loads all of them
ALIVE = to_json({"status": "alive"})


def make_router(samples: Path | None = None, *, with_page: bool = True) -> APIRouter:
    """The routes of `/`, and of the page.

    Args:
        samples: folder of the sample images; None: the bundled scenes.
        with_page: False: `/` only says that the service is alive.
    """
    router = APIRouter(route_class=Endpoint)

    @router.head("/", include_in_schema=False)
    @router.get("/", openapi_extra=openapi.ROOT, response_class=Response)
    async def root(request: Request) -> Response:
        """The page to try the models if `Accept` names text/html, otherwise a short answer."""
        if with_page and params.is_named("text/html", headers_of(request.scope).get("accept")):
            return html.page(request, PACKAGE, "index.html", POLICY)
        return Response(ALIVE, media_type="application/json", headers={"Vary": "Accept"})

    if with_page:
        _add_files(router, samples or SAMPLES)
    return router


def _add_files(router: APIRouter, folder: Path) -> None:
    page_files = StaticFiles(packages=[("app.api", "playground")])
    sample_files = StaticFiles(directory=folder)

    @router.get("/playground/samples", include_in_schema=False)
    async def samples(request: Request) -> Response:
        names = await asyncio.to_thread(sample_names, folder)
        listed = [{"name": name, "url": f"playground/samples/{quote(name)}"} for name in names]
        return Response(to_json({"samples": listed}), media_type="application/json")

    @router.get("/playground/samples/{name}", include_in_schema=False)
    async def sample(request: Request) -> Response:
        return await html.file(request, sample_files, IMAGE_SUFFIXES)

    @router.get("/playground/{name}", include_in_schema=False)
    async def page_file(request: Request) -> Response:
        return await html.file(request, page_files, PAGE_SUFFIXES)


def sample_names(folder: Path) -> list[str]:
    """The names of the first `MAX_SAMPLES` images in a folder, of those that can be sent."""
    inside = folder.resolve()
    names = (
        each.name
        for each in folder.iterdir()
        if each.suffix.lower() in IMAGE_SUFFIXES and not each.name.startswith(".")
    )
    sent = (name for name in sorted(names) if _can_be_sent(folder / name, inside))
    return list(islice(sent, MAX_SAMPLES))


def _can_be_sent(path: Path, inside: Path) -> bool:
    """Whether a file is regular, below the folder, and has a name that a URL can contain."""
    with suppress(OSError, RuntimeError, UnicodeEncodeError):  # RuntimeError: links in a circle
        path.name.encode()
        return path.is_file() and path.resolve().is_relative_to(inside)
    return False
