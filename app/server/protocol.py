"""One HTTP/1.1 connection: parsing within limits, pipelining, error responses, lingering close."""

from asyncio import AbstractEventLoop, Event, Transport
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.core.errors import (
    RETRY_AFTER_S,
    HeadersTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    Overloaded,
    ServiceError,
)
from app.core.scope import CLIENT, REFUSED, Client
from app.server.counted import CountedConnections
from app.server.limits import ConnectionLimits, Phase
from app.server.request_cycle import Cycle
from app.server.timeouts import ConnectionTimeouts, TimeoutTimer, Unsent

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

MAX_UNREAD_BYTES = 2**20  # of a body that the app has not read; above this, receiving pauses
MIN_CHUNK_BYTES = 256  # of the chunks of a body, on average
FREE_CHUNKS = 64  # may be smaller
UNKNOWN = b"-"  # stands for a method or path that could not be parsed
VERSIONS = frozenset({"1.0", "1.1"})


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with limits, and with problem+json for every invalid request.

    uvicorn copies each piece of a body into a buffer and the buffer into a message. It also pauses
    reading at 64 KiB, which costs two more system calls for a photograph. It limits neither headers
    nor trailers. If a request has an `Upgrade` header, as requests of Java's client have, uvicorn
    parses the body as the next request.

    Args:
        config: as in uvicorn, like `server_state`, `app_state` and `_loop`.
        limits: the limits of this connection.
        timer: the timer that checks the timeouts of all connections.
        counted: the connections of the server that count toward the limit.
    """

    cycle: Cycle  # the latest request, None before the first

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        timer: TimeoutTimer,
        counted: CountedConnections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.limits = limits
        self.phase = Phase.IDLE
        self.timeout_generation = 0  # changes whenever a timeout starts again
        self.url = b""
        self._timer = timer
        self._counted = counted
        self._timeouts = ConnectionTimeouts(limits, self.timeout_keep_alive)
        self._beyond_limit = False  # only probes are served
        self._header_bytes = 0  # of this request, trailers included
        self._framing_bytes = 0  # received since the start of the phase or the last body byte
        self._chunks = 0  # of this body
        self._parse_error: ServiceError | None = None
        self._running: Cycle | None = None  # the request that the app is responding to
        self._pipelined: deque[Cycle] = deque()  # the requests after the running one
        self._discard_input = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # uvicorn's
        """Accept the connection. If there are too many, the longest idle one gives way."""
        super().connection_made(transport)
        self._timer.add(self)
        most = self.limits.max_connections
        if len(self._counted) < most or self._counted.close_longest_idle():
            self._counted.add(self)
        else:
            self._beyond_limit = True
            self._counted.add_beyond(self, self.limits.max_refused)

    def _update_idle(self) -> None:
        self._counted.update(self, idle=self.phase is Phase.IDLE and self._running is None)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or refuse them."""
        if self._discard_input:
            return
        if self.phase is Phase.IDLE:
            self.url = b""
            self._set_phase(Phase.HEADERS)
        self._framing_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self.refuse(self._parse_error or MalformedRequest(f"this is not HTTP/1.1: {error}"))
            return
        if self._framing_bytes > self.limits.max_header_bytes:
            self.refuse(self._headers_too_large())

    def _set_phase(self, phase: Phase) -> None:
        self.phase = phase
        self.timeout_generation += 1
        self._framing_bytes = 0
        self._update_idle()

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
            self._set_phase(Phase.HEADERS)
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

    def on_headers_complete(self) -> None:
        """Parser callback: start the request, unless it is parsed again without `Upgrade`."""
        method = self.parser.get_method().decode("ascii")
        if method == "CONNECT":  # the parser would expect another protocol after it
            raise self._stop_parsing(MethodNotAllowed("CONNECT is not supported"))
        if self.parser.should_upgrade():
            return
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise self._stop_parsing(MalformedRequest("this is not HTTP/1.1"))
        if len(self._pipelined) >= self.limits.max_pipelined:
            raise self._stop_parsing(MalformedRequest("too many pipelined requests"))
        scope = self.scope
        scope["method"] = method
        scope["http_version"] = version
        self._set_target(scope)
        keep_alive = version == "1.1" and self.parser.should_keep_alive()
        if self._beyond_limit:
            keep_alive = False
            self._refuse_unless_probe(scope["path"])
        self._set_phase(Phase.BODY)
        self._chunks = 0
        self.start(scope, keep_alive=keep_alive)

    def _refuse_unless_probe(self, path: str) -> None:
        if path not in self.limits.always_served:
            most = self.limits.max_connections
            error = f"all {most} connections are in use"
            limits = {"max_connections": most}
            raise self._stop_parsing(Overloaded(error, retry_after_s=RETRY_AFTER_S, limits=limits))

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

    def start(self, scope: "HTTPScope", keep_alive: bool) -> None:
        """Run the app on a request now, or when the requests before it have responses."""
        self.cycle = Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        scope[CLIENT] = self.cycle.client = Client()  # type: ignore[literal-required]
        if self._running is None:
            self._run(self.cycle)
        else:
            self.flow.pause_reading()
            self._pipelined.append(self.cycle)

    def _run(self, cycle: Cycle) -> None:
        self._running = cycle
        self._start_asgi_task(cycle, self.app)

    def on_body(self, body: bytes) -> None:
        """Parser callback: keep a piece of the body until the app reads it."""
        cycle = self.cycle
        cycle.received += len(body)
        self._framing_bytes = 0  # body bytes do not count toward the framing limit
        if cycle.response_complete:
            return
        if not cycle.body:
            cycle.body = body  # type: ignore[assignment]  # uvicorn reads it as `bytes(body)`
        elif isinstance(cycle.body, bytearray):
            cycle.body += body
        else:  # the second piece: appending to a bytearray takes linear time in total
            cycle.body = bytearray().join((cycle.body, body))
        if len(cycle.body) > MAX_UNREAD_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_chunk_header(self) -> None:
        """Parser callback: a chunk begins. Each costs time, so most must not be small."""
        self._chunks += 1
        if self._chunks > FREE_CHUNKS + self.cycle.received // MIN_CHUNK_BYTES:
            raise self._stop_parsing(MalformedRequest("the chunks of the body are too small"))

    def on_message_complete(self) -> None:
        """Parser callback: the request ends, unless it is parsed again without `Upgrade`."""
        if self.phase is not Phase.BODY:
            return
        self._set_phase(Phase.IDLE)
        self.cycle.more_body = False
        if not self.cycle.response_complete:
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Continue with the next request, wait for one, or close the connection."""
        self.server_state.total_requests += 1
        cycle, self._running = self._running, None
        if self.transport.is_closing():
            return
        self.timeout_generation += 1
        if cycle is not None and cycle.lingering:
            self._linger()
            return
        self.flow.resume_reading()
        if self._pipelined:
            self._run(self._pipelined.popleft())
        else:
            self._update_idle()

    def refuse(self, error: ServiceError) -> None:
        """Send an error response after the pending responses, and ignore further input."""
        if self._discard_input:  # the connection is already refused, or lingers
            return
        self._discard_input = True
        if self.phase is not Phase.BODY:
            self._refuse_head(error)
        elif self.cycle.response_complete:
            self._linger()
        else:
            self.cycle.fail_body(error)

    def _refuse_head(self, error: ServiceError) -> None:
        """Start a request in place of the incomplete one, so that the app returns the error."""
        if self.phase is not Phase.HEADERS or not self.url:
            super().on_message_begin()  # the scope still belongs to the previous request
        method = self.parser.get_method() if self.url else UNKNOWN
        path = self.url.partition(b"?")[0] or UNKNOWN
        scope = self.scope
        scope["method"], scope["path"] = method.decode(), path.decode("latin-1")
        scope["raw_path"], scope["query_string"] = path, b""
        scope[REFUSED] = error  # type: ignore[literal-required]
        self.expect_100_continue = False
        self.start(scope, keep_alive=False)

    def _linger(self) -> None:
        """Send the end of the stream, and continue to read for a while.

        Closing a socket with unread input resets the connection, and the client may lose the
        response.
        """
        self._discard_input = True
        self._counted.add_beyond(self, self.limits.max_refused)
        self._set_phase(Phase.LINGER)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def check_timeouts(self, now: float, elapsed_s: float) -> Unsent:
        """Close or refuse the connection if a timeout has passed; see `TimeoutTimer`."""
        return self._timeouts.check(self, now, elapsed_s)

    def abort(self, reason: str) -> None:
        """Close the connection at once, without the bytes left to send, and count it."""
        metrics = self.app_state.get("metrics")
        if metrics is not None:  # the app has started
            metrics.aborted_connections.labels(reason).inc()
        self.transport.abort()

    @property
    def responding(self) -> bool:
        """Whether the app is responding to a request."""
        return self._running is not None

    @property
    def blocked_by_server(self) -> bool:
        """Whether the client must wait for the server, so that timeouts do not count."""
        if self.phase is Phase.LINGER:
            return False
        if self.phase is Phase.BODY and self.cycle.waiting_for_100_continue:
            return not self.cycle.received
        return self.flow.read_paused or self._discard_input

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell each request without a response of the disconnect; uvicorn tells only the latest."""
        self._timer.discard(self)
        self._counted.discard(self)
        for cycle in (self._running, *self._pipelined):
            if cycle is not None:
                cycle.disconnect()
        self._pipelined.clear()
        super().connection_lost(exc)
