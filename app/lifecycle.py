"""Owns the server of a replica: when it takes connections, and when it lets go of them.

Knows nothing of what is served.
"""

import asyncio
import socket
import time

import uvicorn

from app.doors import Door
from app.heartbeats import Heartbeats

CLOSE = (b"connection", b"close")


class ReplicaServer(uvicorn.Server):
    """A server on the socket of all replicas, which takes connections while the table says so.

    As long as it is not ready, each answer closes its connection: the caller's next request comes
    over a new one, which somebody who is ready may take.

    Args:
        config: of uvicorn; its host and port are not used.
        listening: the socket; it stays open for as long as the parent lives.
        table: the heartbeats of all.
        index: which of the replicas this is.
    """

    def __init__(
        self, config: uvicorn.Config, listening: socket.socket, table: Heartbeats, index: int
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._table = table
        self._index = index
        self._door: Door | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app; connections are taken from the first tick on."""
        await super().startup(sockets=[])

    async def on_tick(self, counter: int) -> bool:
        """Begin or cease to take connections; ten times a second."""
        leaves = await super().on_tick(counter)
        now = time.monotonic()
        opens = self._table.opens(self._index, now)
        if opens and self._door is None:
            self._door = Door(self._listening, self._protocol, self._yields)
            self.servers = [self._door]  # type: ignore[list-item]  # as far as uvicorn closes it
        elif not opens and self._door is not None:
            self._door.close()
            self._door, self.servers = None, []
        headers = [each for each in self.server_state.default_headers if each != CLOSE]
        ready = self._table.standing(self._index, now).ready
        self.server_state.default_headers = headers if ready else [*headers, CLOSE]
        self._count()
        return leaves

    def _count(self) -> int:
        arriving = len(self._door.arriving) if self._door is not None else 0
        held = len(self.server_state.connections) + arriving
        self._table.hold(self._index, held)
        return held

    def _yields(self) -> bool:
        fewest = self._table.fewest_held(self._index, time.monotonic())
        return fewest is not None and self._count() > fewest

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn does
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
