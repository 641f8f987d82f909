"""Owns the server beside the service's own: another socket in the same event loop.

Knows nothing of what is served there. Its connections are counted by themselves, so that those of
the service, however many, take no place from it; and it answers for as long as the service runs,
which while it drains is longer than the service's own socket is open.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

LEAVE_S = 0.5  # for answers that are being sent when the service ends, of which it has a second


class OpsServer(uvicorn.Server):
    """uvicorn's server, less what concerns the process, which is another server's: signals.

    Args:
        config: of the app; it has no lifespan.
        state: what its requests find as theirs.
    """

    def __init__(self, config: uvicorn.Config, state: Mapping[str, Any]) -> None:
        super().__init__(config)
        config.load()
        self.lifespan = config.lifespan_class(config)
        self.lifespan.state.update(state)

    async def run_on(self, listening: socket.socket) -> None:
        """Answer what comes to a socket until told to exit; then close it."""
        await self.startup([listening])
        await self.main_loop()
        await self.shutdown([listening])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, and let what is being answered be answered."""
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=LEAVE_S)


@asynccontextmanager
async def serving(
    configure: Callable[[ASGIApp], uvicorn.Config],
    listening: socket.socket,
    app: ASGIApp,
    state: Mapping[str, Any],
) -> AsyncIterator[None]:
    """Serve an app on a socket for the time of the `with`.

    Args:
        configure: how it is served.
        listening: the socket; it is closed at the end.
        app: which.
        state: what its requests find as theirs.
    """
    server = OpsServer(configure(app), state)
    running = asyncio.create_task(server.run_on(listening))
    try:
        yield
    finally:
        server.should_exit = True
        await running
