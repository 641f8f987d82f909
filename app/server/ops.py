"""A second server for probes and metrics: its own socket, in the same event loop.

Its connections are counted separately, so it answers while the service's connections are all in
use. It also answers until the end of a drain, when the service's own socket is already closed.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.core.background import log_failure

FINISH_S = 0.5  # for responses in progress at the end; the lifespan's shutdown may take 1 s


class OpsServer(uvicorn.Server):
    """uvicorn's server without signal handlers: the server of the service handles the signals.

    Args:
        config: the configuration of the app, without a lifespan.
        state: the state that requests find in their scope.
    """

    def __init__(self, config: uvicorn.Config, state: Mapping[str, Any]) -> None:
        super().__init__(config)
        config.load()
        self.lifespan = config.lifespan_class(config)
        self.lifespan.state.update(state)

    async def run_on(self, listener: socket.socket) -> None:
        """Serve on a socket until `should_exit`, then close it."""
        await self.startup([listener])
        await self.main_loop()
        await self.shutdown([listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, and let responses in progress finish."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=FINISH_S)


@asynccontextmanager
async def serving(
    configure: Callable[[ASGIApp], uvicorn.Config],
    listener: socket.socket,
    app: ASGIApp,
    state: Mapping[str, Any],
) -> AsyncIterator[None]:
    """Serve an app on a socket inside the `with` block.

    Args:
        configure: makes uvicorn's configuration of the app.
        listener: the socket; it is closed at the end.
        app: the app.
        state: the state that requests find in their scope.
    """
    server = OpsServer(configure(app), state)
    running = asyncio.create_task(server.run_on(listener))
    running.add_done_callback(log_failure)
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([running])
