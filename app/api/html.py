"""Sends the HTML pages of the service and the files that they load."""

from collections.abc import Collection
from functools import cache
from html import escape
from http import HTTPStatus
from importlib import resources
from pathlib import PurePath

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

BASE = '<base href="/">'  # in each page, whose addresses are relative to it
HEADERS = {
    "Cache-Control": "no-cache",  # another version of the service has other files
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page(request: Request, package: str, name: str, policy: str) -> Response:
    """Send an HTML file, with addresses that are relative to the path prefix of the service.

    Args:
        request: has the prefix as `root_path` in its scope.
        package: contains the file.
        name: of the file, which contains `BASE`.
        policy: the Content-Security-Policy.
    """
    prefix = escape(request.scope.get("root_path", ""))
    content = _text(package, name).replace(BASE, f'<base href="{prefix}/">')
    headers = HEADERS | {"Content-Security-Policy": policy, "Vary": "Accept"}
    return Response(content, media_type="text/html", headers=headers)


@cache
def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


async def file(request: Request, files: StaticFiles, suffixes: Collection[str]) -> Response:
    """Send the file that the path parameter `name` names, or 304 if the client has it.

    Args:
        request: has the path parameter.
        files: the folders that may have the file.
        suffixes: of the files that are sent, lower-case.

    Raises:
        HTTPException: there is no such file.
    """
    name = request.path_params["name"]
    if name.startswith(".") or PurePath(name).suffix.lower() not in suffixes:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    try:
        response = await files.get_response(name, request.scope)
    except OSError as error:  # for example, links in a circle
        raise HTTPException(HTTPStatus.NOT_FOUND) from error
    response.headers.update(HEADERS)
    return response
