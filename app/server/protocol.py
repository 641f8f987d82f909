"""One HTTP/1.1 connection: its requests, pipelining, error responses, lingering close."""

from asyncio import AbstractEventLoop, Event, Transport
from collections import deque
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from app.core.errors import (
    RETRY_AFTER_S,
    MalformedRequest,
    MethodNotAllowed,
    Overloaded,
    ServiceError,
)
from app.core.scope import CLIENT, REFUSED, Client
from app.server.counted import CountedConnections
from app.server.limits import ConnectionLimits, Phase
from app.server.parsing import ParsingProtocol
from app.server.request_cycle import Cycle
from app.server.timeouts import ConnectionTimeouts, TimeoutTimer, Unsent

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

MAX_UNREAD_BYTES = 2**20  # of a body that the app has not read; above this, receiving pauses
UNKNOWN = b"-"  # stands for a method or path that could not be parsed
VERSIONS = frozenset({"1.0", "1.1"})


class HttpProtocol(ParsingProtocol):
    """uvicorn's HTTP/1.1 protocol, with limits, and with problem+json for every invalid request.

    uvicorn copies each piece of a body into a buffer and the buffer into a message. It also pauses
    reading at 64 KiB, which costs two more system calls for a photograph.

    Args:
        config: as in uvicorn, like `server_state`, `app_state` and `_loop`.
        limits: the limits of this connection.
        timer: the timer that checks the timeouts of all connections.
        counted: the connections of the server that count toward the limit.
    """

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
        super().__init__(config, server_state, app_state, _loop, limits=limits)
        self.timeout_generation = 0  # changes whenever a timeout starts again
        self._timer = timer
        self._counted = counted
        self._timeouts = ConnectionTimeouts(limits, self.timeout_keep_alive)
        self._beyond_limit = False  # only probes are served
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
            # one piece in each turn of the event loop: libuv would read up to 32 pieces of 256 kB
            self.flow.pause_reading()
            self.loop.call_soon(self._resume_reading)
        else:
            super().data_received(data)

    def _resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def set_phase(self, phase: Phase) -> None:
        """Begin a phase, and its timeout."""
        super().set_phase(phase)
        self.timeout_generation += 1
        self._update_idle()

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
        self.set_phase(Phase.BODY)
        self._chunks = 0
        self.start(scope, keep_alive=keep_alive)

    def _refuse_unless_probe(self, path: str) -> None:
        if path not in self.limits.always_served:
            most = self.limits.max_connections
            error = f"all {most} connections are in use"
            limits = {"max_connections": most}
            raise self._stop_parsing(Overloaded(error, retry_after_s=RETRY_AFTER_S, limits=limits))

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

    def on_message_complete(self) -> None:
        """Parser callback: the request ends, unless it is parsed again without `Upgrade`."""
        if self.phase is not Phase.BODY:
            return
        self.set_phase(Phase.IDLE)
        self.cycle.more_body = False
        if not self.cycle.response_complete:
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Continue with the next request, wait for one, or close the connection."""
        self.server_state.total_requests += 1
        cycle, self._running = self._running, None
        if cycle is not None:
            cycle.body = bytearray()  # what the app has not read; the connection may stay idle
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
        self.set_phase(Phase.LINGER)
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
