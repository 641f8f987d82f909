"""The server of one process: signals, draining and shutdown."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.core.process import DRAIN_SIGNAL, REPEATED_SIGNALS, SIGNAL_BASE, exit_now, stop_signals
from app.core.shutdown import Shutdown
from app.server.accept import BACKLOG, accept_backlog

logger = logging.getLogger(__name__)

CONNECTION_CLOSE = (b"connection", b"close")
QUIET_S = 0.5  # without new connections, until load balancers are taken to have stopped
LAST_RESPONSES_S = 0.5  # to send the error responses of cancelled requests
LIFESPAN_S = 1.0  # for the app's shutdown
MAX_OVERHEAD_S = QUIET_S + LAST_RESPONSES_S + LIFESPAN_S  # of a shutdown, beyond its settings
POLL_S = 0.02


class GracefulServer(uvicorn.Server):
    """A server that finishes every accepted request before it shuts down, in bounded time.

    uvicorn's server would close its socket at once, wait without a bound for slow clients, and
    raise the signal again at the end.

    Args:
        config: uvicorn's configuration; its host and port are not used.
        listener: the socket; it is closed when no more connections are accepted.
        shutdown: the state of the service's shutdown.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, shutdown: Shutdown) -> None:
        super().__init__(config)
        self._listener = listener
        self._shutdown = shutdown
        self._last_connection_at = -QUIET_S
        self._stop_signalled = False
        self._headers = self.server_state.default_headers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then accept connections."""
        await super().startup(sockets=[])
        await self._start_accepting()

    async def on_tick(self, counter: int) -> bool:
        """Apply the state of the shutdown, ten times a second; return whether to stop."""
        stops = await super().on_tick(counter)
        self._apply_state()
        return stops or self._drained()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the socket, then the connections, then the app, in bounded time."""
        await self._stop_accepting()
        self._listener.close()
        until = self._last_connection_at + QUIET_S
        while time.monotonic() < until and any(map(is_unused, self.server_state.connections)):  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(POLL_S)
        await self._close_connections()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.lifespan.shutdown(), LIFESPAN_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal; end the process at the second."""
        if self._stop_signalled and sig not in REPEATED_SIGNALS:
            exit_now(SIGNAL_BASE + sig)
        self._stop_signalled = self._stop_signalled or sig != DRAIN_SIGNAL
        self._loop.call_soon_threadsafe(self._begin_shutdown)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs. Unlike uvicorn's, this raises none again."""
        self._loop = asyncio.get_running_loop()
        before = {
            each: signal.signal(each, self.handle_exit) for each in (*stop_signals(), DRAIN_SIGNAL)
        }
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _begin_shutdown(self) -> None:
        if self._shutdown.begun:
            return
        self._shutdown.begin()
        if not self._shutdown.opened:
            logger.info("shutdown requested before any request was accepted")
            self.should_exit = True
            return
        self._apply_state()
        logger.info(
            "shutdown requested: requests are accepted for %g s more, "
            "then requests in flight have %g s to finish; a second signal ends the process at once",
            self._shutdown.lame_duck_s,
            self._shutdown.timeout_s,
        )

    def _apply_state(self) -> None:
        """Add or remove `Connection: close` in the headers of all responses.

        uvicorn makes a new list of headers every second, and a request keeps the list that was
        current when it started. All requests share one list here, because the state may change
        before their response.
        """
        headers = [each for each in self.server_state.default_headers if each != CONNECTION_CLOSE]
        if self._sends_connection_close():
            headers.append(CONNECTION_CLOSE)
        self._headers[:] = headers
        self.server_state.default_headers = self._headers

    def _sends_connection_close(self) -> bool:
        """Whether each response closes its connection."""
        return self._shutdown.reason_unready is not None

    def _drained(self) -> bool:
        if not self._shutdown.refusing:
            return False
        quiet = time.monotonic() - self._last_connection_at >= QUIET_S
        return self._shutdown.overdue or (quiet and not self._busy_connections())

    def _busy_connections(self) -> int:
        return sum(map(is_busy, self.server_state.connections))

    async def _start_accepting(self) -> None:
        listener = await asyncio.get_running_loop().create_server(
            self._make_protocol, sock=self._listener.dup(), backlog=BACKLOG
        )
        self.servers = [listener]

    async def _stop_accepting(self) -> None:
        """Accept the connections that are already established, and no more."""
        for listener in self.servers:
            listener.close()
        await accept_backlog(self._listener, self._make_protocol)

    async def _close_connections(self) -> None:
        """Cancel the requests in flight, so that they get an error, then close the connections."""
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        unfinished = list(state.tasks)
        await asyncio.sleep(POLL_S)  # a task that is cancelled before it runs sends no response
        abandoned = self._busy_connections()
        if abandoned:
            logger.warning("%d requests are abandoned", abandoned)
        for task in unfinished:
            task.cancel()
        until = time.monotonic() + LAST_RESPONSES_S
        while (state.connections or state.tasks) and time.monotonic() < until:  # noqa: ASYNC110  # no event here either
            await asyncio.sleep(POLL_S)
        for connection in list(state.connections):
            connection.transport.abort()

    def _make_protocol(self) -> asyncio.Protocol:
        self._last_connection_at = time.monotonic()
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn calls it
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )


def is_unused(connection: asyncio.Protocol) -> bool:
    """Whether the connection has not had a request yet."""
    return isinstance(connection, HttpToolsProtocol) and connection.cycle is None


def is_busy(connection: asyncio.Protocol) -> bool:
    """Whether a request is being received, is being answered, or has bytes left to send."""
    if not isinstance(connection, HttpToolsProtocol):  # uvicorn's type allows WebSockets
        return False
    cycle = connection.cycle
    latest_scope = cycle.scope if cycle is not None else None
    if connection.scope is not latest_scope:  # the headers of the next request are being received
        return True
    answered = cycle is None or cycle.response_complete
    return not answered or connection.transport.get_write_buffer_size() > 0
