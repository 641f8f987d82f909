"""Owns the server: which signals it hears, and how it lets go of its connections.

Knows nothing of what is served.
"""

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

from app.core.process import DRAIN_SIGNAL, SIGNAL_BASE, STOP_SIGNALS, exit_now
from app.core.shutdown import Shutdown
from app.server.accept import BACKLOG, accept_backlog

logger = logging.getLogger(__name__)

CLOSE = (b"connection", b"close")
QUIET_S = 0.5  # without a new connection: by then no balancer sends any
LAST_WORDS_S = 0.5  # to send what is left to say once nothing is waited for any more
CLEAN_UP_S = 1.0
LATEST_S = QUIET_S + LAST_WORDS_S + CLEAN_UP_S  # what leaving takes beside its settings
STEP_S = 0.02


class GracefulServer(uvicorn.Server):
    """A server that loses nothing it has taken when it is told to leave.

    uvicorn itself would close its listener at once, wait for as long as any client likes, and die
    of the signal in the end.

    Args:
        config: of uvicorn; its host and port are not used.
        listening: the socket, which is closed as soon as no more connections are taken.
        shutdown: how far the service is on its way out.
    """

    def __init__(
        self, config: uvicorn.Config, listening: socket.socket, shutdown: Shutdown
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._shutdown = shutdown
        self._arrived = -QUIET_S  # when the last connection did
        self._warned = False
        self._headers = self.server_state.default_headers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, and take connections."""
        await super().startup(sockets=[])
        await self._open()

    async def on_tick(self, counter: int) -> bool:
        """See whether it is time to go; ten times a second."""
        leaves = await super().on_tick(counter)
        self._apply_state()
        return leaves or self._drained()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let go of the listener, then of the connections, then of the app; in bounded time."""
        await self._close()
        self._listening.close()
        until = self._arrived + QUIET_S
        while time.monotonic() < until and any(map(is_fresh, self.server_state.connections)):  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(STEP_S)
        await self._close_connections()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.lifespan.shutdown(), CLEAN_UP_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave in order at the first signal, and at once at the second."""
        if sig != DRAIN_SIGNAL:
            if self._warned:
                exit_now(SIGNAL_BASE + sig)
            self._warned = True
        self._loop.call_soon_threadsafe(self._leave)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear signals for as long as the server runs. None is raised again, as uvicorn would."""
        self._loop = asyncio.get_running_loop()
        before = {
            each: signal.signal(each, self.handle_exit) for each in (*STOP_SIGNALS, DRAIN_SIGNAL)
        }
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _leave(self) -> None:
        if self._shutdown.begun:
            return
        self._shutdown.begin()
        if not self._shutdown.opened:
            logger.info("told to leave before any work was taken")
            self.should_exit = True
            return
        self._apply_state()
        logger.info(
            "told to leave: work is taken for %g s more, then waited for, %g s at most",
            self._shutdown.lame_duck_s,
            self._shutdown.timeout_s,
        )

    def _apply_state(self) -> None:
        """Do what the state of the service asks for.

        uvicorn makes a list of headers each second, for the requests of that second. All share one
        list instead: what a request was told when it came may not hold when it is answered.
        """
        headers = [each for each in self.server_state.default_headers if each != CLOSE]
        self._headers[:] = [*headers, CLOSE] if self._sends_connection_close() else headers
        self.server_state.default_headers = self._headers

    def _sends_connection_close(self) -> bool:
        """Whether each answer closes its connection."""
        return self._shutdown.reason_unready is not None

    def _drained(self) -> bool:
        if not self._shutdown.refusing:
            return False
        quiet = time.monotonic() - self._arrived >= QUIET_S
        return self._shutdown.overdue or (quiet and not self._busy())

    def _busy(self) -> int:
        return sum(map(is_busy, self.server_state.connections))

    async def _open(self) -> None:
        listener = await asyncio.get_running_loop().create_server(
            self._protocol, sock=self._listening.dup(), backlog=BACKLOG
        )
        self.servers = [listener]

    async def _close(self) -> None:
        """Take the last connections."""
        for listener in self.servers:
            listener.close()
        await accept_backlog(self._listening, self._protocol)

    async def _close_connections(self) -> None:
        """Let go of all connections; whoever is still served is told that it will not be."""
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        begun = list(state.tasks)
        await asyncio.sleep(STEP_S)  # one that has not run yet would be cancelled without a word
        abandoned = self._busy()
        if abandoned:
            logger.warning("%d requests are abandoned", abandoned)
        for task in begun:
            task.cancel()
        until = time.monotonic() + LAST_WORDS_S
        while (state.connections or state.tasks) and time.monotonic() < until:  # noqa: ASYNC110  # nor for this
            await asyncio.sleep(STEP_S)
        for connection in list(state.connections):
            connection.transport.abort()

    def _protocol(self) -> asyncio.Protocol:
        self._arrived = time.monotonic()
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn does
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )


def is_fresh(connection: asyncio.Protocol) -> bool:
    """Whether no request has come over it yet."""
    return isinstance(connection, HttpToolsProtocol) and connection.cycle is None


def is_busy(connection: asyncio.Protocol) -> bool:
    """Whether a request is being received or answered there, or its answer being sent."""
    if not isinstance(connection, HttpToolsProtocol):  # a WebSocket, which nothing answers
        return False
    cycle = connection.cycle
    received = cycle.scope if cycle is not None else None
    if connection.scope is not received:  # its headers are under way
        return True
    answered = cycle is None or cycle.response_complete
    return not answered or connection.transport.get_write_buffer_size() > 0
