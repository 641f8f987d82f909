"""Parses the requests on one HTTP/1.1 connection, within limits."""

from asyncio import AbstractEventLoop
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.core.errors import HeadersTooLarge, MalformedRequest, ServiceError
from app.server.limits import ConnectionLimits, Phase
from app.server.request_cycle import Cycle

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

MIN_CHUNK_BYTES = 256  # of the chunks of a body, on average
FREE_CHUNKS = 64  # may be smaller


class ParsingProtocol(HttpToolsProtocol):
    """The part of a connection that parses; `refuse` is the part that responds.

    uvicorn limits neither headers nor trailers. If a request has an `Upgrade` header, as requests
    of Java's client have, uvicorn parses the body as the next request.

    Args:
        config: as in uvicorn, like `server_state`, `app_state` and `_loop`.
        limits: the limits of this connection.

    Attributes:
        cycle: the latest request, None before the first.
        phase: what the client sends, or is expected to send.
        url: the request target.
    """

    cycle: Cycle

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.limits = limits
        self.phase = Phase.IDLE
        self.url = b""
        self._header_bytes = 0  # of this request, trailers included
        self._framing_bytes = 0  # received since the start of the phase or the last body byte
        self._chunks = 0  # of this body
        self._parse_error: ServiceError | None = None

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or refuse them."""
        if self.phase is Phase.IDLE:
            self.url = b""
            self.set_phase(Phase.HEADERS)
        self._framing_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self.refuse(self._parse_error or MalformedRequest(f"this is not HTTP/1.1: {error}"))
            return
        if self._framing_bytes > self.limits.max_header_bytes:
            self.refuse(self._headers_too_large())

    def refuse(self, error: ServiceError) -> None:
        """Respond with an error, and ignore further input."""
        raise NotImplementedError

    def set_phase(self, phase: Phase) -> None:
        """Begin a phase."""
        self.phase = phase
        self._framing_bytes = 0

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]

    def _head_without_upgrade(self) -> bytes:
        """The request line and headers without `Upgrade`, which a server may ignore.

        After an `Upgrade` header the parser expects another protocol, so a new parser parses the
        request again.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """Parser callback: a request begins, possibly in the middle of the received bytes."""
        if self.phase is not Phase.HEADERS:
            self.set_phase(Phase.HEADERS)
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Parser callback: a piece of the request target."""
        self.url += url
        self._count_header_bytes(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser callback: a header, or a trailer, which is counted and ignored."""
        self._count_header_bytes(len(name) + len(value) + 4)
        if self.phase is Phase.BODY:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            raise self._stop_parsing(
                MalformedRequest("the only supported Transfer-Encoding is chunked")
            )

    def _count_header_bytes(self, size: int) -> None:
        self._header_bytes += size
        limits = self.limits
        if self._header_bytes > limits.max_header_bytes or len(self.headers) >= limits.max_headers:
            raise self._stop_parsing(self._headers_too_large())

    def _headers_too_large(self) -> HeadersTooLarge:
        most = {
            "max_header_bytes": self.limits.max_header_bytes,
            "max_headers": self.limits.max_headers,
        }
        return HeadersTooLarge("the headers are too large, or too many", limits=most)

    def _stop_parsing(self, error: ServiceError) -> ServiceError:
        """Keep an error for a parser callback to raise: the parser raises its own error instead."""
        self._parse_error = error
        return error

    def _set_target(self, scope: "HTTPScope") -> None:
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            error = MalformedRequest("the request target is not a path")
            raise self._stop_parsing(error) from None
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")  # the parser accepts no other characters
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""

    def on_chunk_header(self) -> None:
        """Parser callback: a chunk begins. Each costs time, so most must not be small."""
        self._chunks += 1
        if self._chunks > FREE_CHUNKS + self.cycle.received // MIN_CHUNK_BYTES:
            raise self._stop_parsing(MalformedRequest("the chunks of the body are too small"))
