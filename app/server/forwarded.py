"""What a trusted proxy says of a request: the address of the client, and the path prefix."""

import re
from ipaddress import ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

PREFIX = re.compile(rb"(/[\w.~-]+)+", re.ASCII)


class ForwardedHeaders:
    """ASGI middleware that applies X-Forwarded-For, -Proto and -Prefix of trusted proxies.

    uvicorn's middleware applies the first two. The prefix becomes the `root_path` of the request; a
    prefix that is not a plain path is ignored.

    Args:
        app: the application inside.
        proxies: addresses and networks of the proxies, comma-separated.
    """

    def __init__(self, app: ASGIApp, proxies: str) -> None:
        self._app = ProxyHeadersMiddleware(app, proxies)  # type: ignore[arg-type]  # ASGI's types
        self._networks = [ip_network(proxy) for proxy in proxies.split(",")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and self._is_trusted(scope):
            prefixes = [value for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
            if len(prefixes) == 1 and (prefix := PREFIX.fullmatch(prefixes[0].rstrip(b"/"))):
                scope["root_path"] = prefix[0].decode("ascii")
        await self._app(scope, receive, send)  # type: ignore[arg-type]  # the same

    def _is_trusted(self, scope: Scope) -> bool:
        """Whether the connection comes from one of the proxies."""
        try:
            address = ip_address(scope["client"][0])
        except (TypeError, ValueError):  # no client, or not an address
            return False
        return any(address in network for network in self._networks)
