"""A reverse proxy that publishes a service below a path prefix."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx

HOP_BY_HOP = {"connection", "transfer-encoding", "date", "server"}


@contextmanager
def behind_prefix(
    service: str, prefix: str, *, strip: bool, headers: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Publish a service below a prefix: yields the address of the prefix.

    Args:
        service: address of the service.
        prefix: such as `/vision`; every other path is a 404.
        strip: whether the proxy removes the prefix from the path.
        headers: that the proxy adds to each request.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if not self.path.startswith(prefix + "/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(prefix) if strip else self.path
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent = {**self.headers, "Host": self.headers["Host"], **(headers or {})}
            response = httpx.request(
                self.command, service + path, content=body, headers=sent, timeout=60
            )
            self.send_response(response.status_code)
            for name, value in response.headers.items():
                if name not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.content)

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
        server.shutdown()
        thread.join()
