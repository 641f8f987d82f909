"""Owns what becomes of the requests of a connection, one after the other, and how it ends.

Knows nothing of the app that answers them; what is refused here is answered by it, too.
"""

from asyncio import AbstractEventLoop, Event, Transport
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from app.api.middleware import REFUSED
from app.core.errors import Overloaded, ServiceError
from app.core.scope import CALLER, Caller
from app.server.limits import ConnectionLimits, Phase
from app.server.protocol import Intake
from app.server.request_cycle import Cycle
from app.server.sweep import Sweep
from app.server.timeouts import Patience

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

RETRY_AFTER_S = 1.0
UNKNOWN = b"-"  # a method or a path


class Protocol(Intake):
    """uvicorn's HTTP/1.1 with limits, and with a problem+json answer to what breaks them.

    Args:
        config: of uvicorn, as are `server_state`, `app_state` and `_loop`.
        limits: of this connection.
        sweep: looks at it; shared with all others.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
        sweep: Sweep,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, limits)
        self._sweep = sweep
        self._patience = Patience(limits, self.timeout_keep_alive)
        self._running: Cycle | None = None  # the others without an answer are in the pipeline

    @property
    def answering(self) -> bool:
        """Whether a request has no answer yet."""
        return self._running is not None

    @property
    def held_up(self) -> bool:
        """Whether it is us for whom the other side waits."""
        if self.phase is Phase.END:
            return False
        if self.phase is Phase.BODY and self.cycle.waiting_for_100_continue:
            return not self.cycle.received
        return self.flow.read_paused or self.deaf

    def look(self, now: float, passed: float) -> None:
        """See whether something has taken too long; see `Sweep`."""
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
        scope[CALLER] = self.cycle.caller = Caller()  # type: ignore[literal-required]
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
        self.deaf = True
        if self.phase is not Phase.BODY:
            self._refuse_head(error)
        elif self.cycle.response_complete:
            self._linger()
        else:
            self.cycle.fail(error)

    def _refuse_head(self, error: ServiceError) -> None:
        if self.phase is not Phase.HEAD or not self.url:
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
        self.turn += 1
        if cycle is not None and cycle.lingers:
            self._linger()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._run(self.pipeline.pop()[0])

    def _linger(self) -> None:
        """Send no more, and read on for a while.

        To close with bytes unread is to reset the connection, and the answer may be lost with it.
        """
        self.deaf = True
        self.enter(Phase.END)
        self._dropped = 0
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
