"""One HTTP/1.1 connection: parsing within limits, pipelining, refusals, lingering close."""

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
    Overloaded,
    ServiceError,
)
from app.core.scope import CLIENT, REFUSED, Client
from app.server.limits import ConnectionLimits, Phase
from app.server.request_cycle import DRAINED, Cycle
from app.server.timeouts import ConnectionTimeouts, TimeoutTimer

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

MOST_UNREAD = 2**20  # unread body bytes that are kept before reading pauses
UNKNOWN = b"-"  # a method or a path
VERSIONS = frozenset({"1.0", "1.1"})


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits, and with a problem+json response to what exceeds them.

    uvicorn itself copies each piece of a body into a buffer and the buffer into a message, and
    stops reading at 64 KiB, which costs two more system calls for a photograph. It limits neither
    headers nor trailers. It takes the body of a request with an `Upgrade` header, as Java's client
    sends it, for the next request.

    Args:
        config: uvicorn's, as are `server_state`, `app_state` and `_loop`.
        limits: the limits of this connection.
        sweep: the timer that checks the timeouts of all connections.
    """

    cycle: Cycle  # the latest request, None before the first
    pipeline: deque[tuple[Cycle, Any]]  # type: ignore[assignment]  # only this class fills it

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        sweep: TimeoutTimer,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.limits = limits
        self.phase = Phase.IDLE
        self.timeout_generation = 0  # changes whenever a time limit begins anew
        self.discard_input = False  # input is discarded
        self.url = b""
        self._read = self._fed = self._head = 0  # bytes: of this piece, in this phase, of headers
        self._dropped = 0
        self._broken: ServiceError | None = None
        self._sweep = sweep
        self._patience = ConnectionTimeouts(limits, self.timeout_keep_alive)
        self._running: Cycle | None = None  # the other requests without a response are pipelined

    @property
    def answering(self) -> bool:
        """Whether a request has no answer yet."""
        return self._running is not None

    @property
    def held_up(self) -> bool:
        """Whether it is us for whom the other side waits."""
        if self.phase is Phase.LINGER:
            return False
        if self.phase is Phase.BODY and self.cycle.waiting_for_100_continue:
            return not self.cycle.received
        return self.flow.read_paused or self.discard_input

    def look(self, now: float, passed: float) -> None:
        """See whether something has taken too long; see `TimeoutTimer`."""
        self._patience.look(self, now, passed)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # uvicorn's
        """Take the connection, or tell that there are too many."""
        super().connection_made(transport)
        self._sweep.add(self)
        most = self.limits.max_connections
        if len(self.connections) > most + self.limits.turned_away:
            transport.abort()
        elif len(self.connections) > most:
            error = f"all of the {most} connections are in use"
            limits = {"max_connections": most}
            self.refuse(Overloaded(error, retry_after_s=RETRY_AFTER_S, limits=limits))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request without an answer; uvicorn would tell the latest."""
        self._sweep.discard(self)
        for cycle in (self._running, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:
                cycle.leave()
        self.pipeline.clear()
        super().connection_lost(exc)

    def set_phase(self, phase: Phase, fed: int = 0) -> None:
        """Expect something else, from now on."""
        self.phase = phase
        self.timeout_generation += 1
        self._fed = fed

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless it is refused."""
        if self.discard_input:
            self._drop(len(data))
            return
        self._read = len(data)
        if self.phase is Phase.IDLE:
            self.set_phase(Phase.HEADERS)
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
        if self.phase is not Phase.HEADERS:
            self.set_phase(Phase.HEADERS, fed=-self._read)
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
        self.set_phase(Phase.BODY, fed=-self._read)
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
        self.set_phase(Phase.IDLE)
        self.cycle.more_body = False
        if not self.cycle.response_complete:
            self.cycle.message_event.set()

    def start(self, scope: "HTTPScope", keep_alive: bool) -> None:
        """Have the app answer a request, or let it wait for its turn."""
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
            self.pipeline.appendleft((self.cycle, self.app))

    def _run(self, cycle: Cycle) -> None:
        self._running = cycle
        self._start_asgi_task(cycle, self.app)

    def refuse(self, error: ServiceError) -> None:
        """Answer with an error what cannot be heeded, after all before it; then hear no more."""
        self.discard_input = True
        if self.phase is not Phase.BODY:
            self._refuse_head(error)
        elif self.cycle.response_complete:
            self._linger()
        else:
            self.cycle.fail(error)

    def _refuse_head(self, error: ServiceError) -> None:
        if self.phase is not Phase.HEADERS or not self.url:
            super().on_message_begin()  # what there is belongs to the request before
        method = self.parser.get_method() if self.url else UNKNOWN
        path = self.url.partition(b"?")[0] or UNKNOWN
        scope = self.scope
        scope["method"], scope["path"] = method.decode(), path.decode("latin-1")
        scope["raw_path"], scope["query_string"] = path, b""
        scope[REFUSED] = error  # type: ignore[literal-required]
        self.expect_100_continue = False
        self.start(scope, keep_alive=False)

    def on_response_complete(self) -> None:
        """Go on with the next request, wait for one, or let the connection end."""
        self.server_state.total_requests += 1
        cycle, self._running = self._running, None
        if self.transport.is_closing():
            return
        self.timeout_generation += 1
        if cycle is not None and cycle.lingering:
            self._linger()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._run(self.pipeline.pop()[0])

    def _linger(self) -> None:
        """Send no more, and read on for a while.

        To close with bytes unread is to reset the connection, and the answer may be lost with it.
        """
        self.discard_input = True
        self.set_phase(Phase.LINGER)
        self._dropped = 0
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
