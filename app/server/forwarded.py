"""The path prefix of the service, and what a trusted proxy says of a request."""

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

PREFIX = re.compile(rb"(/[\w.~-]+)+", re.ASCII)


class Forwarded:
    """ASGI middleware that applies X-Forwarded-For, -Proto and -Prefix of trusted proxies.

    uvicorn's middleware applies the first two. A prefix that is not a plain path is ignored.

    Args:
        app: the application inside; it gets the prefix as `root_path`.
        proxies: addresses and networks of the proxies.
        root_path: the prefix of all other requests.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str], root_path: str) -> None:
        self._app = ProxyHeadersMiddleware(app, [*proxies])  # type: ignore[arg-type]  # ASGI's types
        self._networks = [ip_network(proxy) for proxy in proxies]
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            scope["root_path"] = self._prefix(scope)
        await self._app(scope, receive, send)  # type: ignore[arg-type]  # the same

    def _prefix(self, scope: Scope) -> str:
        if self._is_trusted(scope):
            prefixes = [value for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
            if len(prefixes) == 1 and (prefix := PREFIX.fullmatch(prefixes[0].rstrip(b"/"))):
                return prefix[0].decode("ascii")
        return self._root_path

    def _is_trusted(self, scope: Scope) -> bool:
        """Whether the connection comes from one of the proxies."""
        try:
            address = ip_address(scope["client"][0])
        except (TypeError, ValueError):  # no client, or not an address
            return False
        return any(address in network for network in self._networks)
