"""Owns how requests come off a connection: within limits, with as few copies, and as few pauses, as
uvicorn allows.

Knows nothing of what is sent, nor of what becomes of a request.
"""

from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.core.errors import HeadersTooLarge, MalformedRequest, ServiceError
from app.server.limits import ConnectionLimits, Phase
from app.server.request_cycle import DRAINED, Cycle

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

MOST_UNREAD = 2**20  # bytes of a body that may lie here before the sender is made to wait
VERSIONS = frozenset({"1.0", "1.1"})


class Intake(HttpToolsProtocol, ABC):
    """The receiving half of uvicorn's HTTP/1.1, which bounds what it keeps of a request.

    uvicorn itself copies every piece of a body into a buffer and the buffer into a message, and
    stops reading at 64 KiB, which for a photograph means two more calls of the system. It bounds
    neither headers nor trailers, and takes the body of a request that would be upgraded, as Java's
    client sends them, for the next request.
    """

    cycle: Cycle  # the latest request, None before the first
    pipeline: deque[tuple[Cycle, Any]]  # type: ignore[assignment]  # we put them there

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.limits = limits
        self.phase = Phase.IDLE
        self.turn = 0  # changes whenever a time limit begins anew
        self.deaf = False  # nothing that comes is parsed any more
        self.url = b""
        self._read = self._fed = self._head = 0  # bytes: of this piece, in this phase, of headers
        self._dropped = 0
        self._broken: ServiceError | None = None

    @abstractmethod
    def start(self, scope: "HTTPScope", keep_alive: bool) -> None:
        """Take a request whose headers are complete."""

    @abstractmethod
    def refuse(self, error: ServiceError) -> None:
        """Answer with an error what cannot be heeded; nothing that comes is heeded any more."""

    def enter(self, phase: Phase, fed: int = 0) -> None:
        """Expect something else, from now on."""
        self.phase = phase
        self.turn += 1
        self._fed = fed

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless it is refused."""
        if self.deaf:
            self._drop(len(data))
            return
        self._read = len(data)
        if self.phase is Phase.IDLE:
            self.enter(Phase.HEAD)
            self.url = b""
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self.refuse(self._broken or MalformedRequest(f"this is not HTTP/1.1: {error}"))
            return
        if self.phase is not Phase.IDLE:
            self._fed += len(data)
            if self._fed > self.limits.max_header_bytes:
                self.refuse(self._headers_too_large())

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > DRAINED:
            self.flow.pause_reading()

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]

    def _without_upgrade(self) -> bytes:
        """The head of a request that would leave HTTP/1.1, without that wish; we need not heed it.

        The parser takes whatever follows such a head for another protocol's, so it begins anew.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", b""])

    def _break(self, error: ServiceError) -> ServiceError:
        """What to raise where the parser calls back; it would not pass the reason on."""
        self._broken = error
        return error

    def _headers_too_large(self) -> HeadersTooLarge:
        most = {
            "max_header_bytes": self.limits.max_header_bytes,
            "max_headers": self.limits.max_headers,
        }
        return HeadersTooLarge("the headers are larger than allowed, or too many", limits=most)

    def on_message_begin(self) -> None:
        """A request begins, maybe in the middle of what has come."""
        if self.phase is not Phase.HEAD:
            self.enter(Phase.HEAD, fed=-self._read)
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self.url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nobody asks for."""
        self._count_head(len(name) + len(value) + 4)
        if self.phase is Phase.BODY:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            raise self._break(MalformedRequest("no Transfer-Encoding but chunked is understood"))

    def _count_head(self, size: int) -> None:
        self._head += size
        limits = self.limits
        if self._head > limits.max_header_bytes or len(self.headers) >= limits.max_headers:
            raise self._break(self._headers_too_large())

    def on_headers_complete(self) -> None:
        """Start the request, unless it will begin anew."""
        method = self.parser.get_method().decode("ascii")
        if self.parser.should_upgrade() and method != "CONNECT":
            return
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise self._break(MalformedRequest("this is not HTTP/1.1"))
        if len(self.pipeline) >= self.limits.max_pipelined:
            raise self._break(MalformedRequest("too many requests wait for an answer"))
        scope = self.scope
        scope["method"] = method
        scope["http_version"] = version
        self._set_target(scope)
        self.enter(Phase.BODY, fed=-self._read)
        self.start(scope, keep_alive=version == "1.1" and self.parser.should_keep_alive())

    def _set_target(self, scope: "HTTPScope") -> None:
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            raise self._break(MalformedRequest("the request names no path")) from None
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")  # the parser lets no other characters pass
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body until the app asks for it."""
        cycle = self.cycle
        cycle.received += len(body)
        self._fed = -self._read  # of what comes beside the pieces there is to be little
        if cycle.response_complete:
            return
        if not cycle.body:
            cycle.body = body  # type: ignore[assignment]  # what is read of it is `bytes(body)`
        elif isinstance(cycle.body, bytearray):
            cycle.body += body
        else:  # from the second piece on a buffer, which grows by small ones in linear time
            cycle.body = bytearray().join((cycle.body, body))
        if len(cycle.body) > MOST_UNREAD:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The end of a request, unless it will begin anew."""
        if self.phase is not Phase.BODY:
            return
        self.enter(Phase.IDLE)
        self.cycle.more_body = False
        if not self.cycle.response_complete:
            self.cycle.message_event.set()
