"""Owns the server of a replica, on the socket of all: when it takes connections from it.

Knows nothing of what is served, nor of how a server leaves.
"""

import socket
import time
from types import FrameType

import uvicorn

from app.core.process import LEAVE
from app.core.shutdown import Shutdown
from app.replicas.heartbeats import Heartbeats
from app.server.accept import Door, take_last
from app.server.server import Server


class ReplicaServer(Server):
    """A server on the socket of all replicas, which takes connections while the table says so.

    As long as it is not ready, each answer closes its connection: the caller's next request comes
    over a new one, which somebody who is ready may take.

    Args:
        config: of uvicorn; its host and port are not used.
        listening: the socket; it stays open for as long as the parent or a replica has it.
        shutdown: how far this replica is on its way out.
        table: the heartbeats of all.
        index: which of the replicas this is.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket.socket,
        shutdown: Shutdown,
        table: Heartbeats,
        index: int,
    ) -> None:
        super().__init__(config, listening, shutdown)
        self._table = table
        self._index = index
        self._door: Door | None = None
        self._all_leave = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave as any server does, and know whether all leave."""
        self._all_leave = self._all_leave or sig == LEAVE
        super().handle_exit(sig, frame)

    async def _open(self) -> None:
        """Connections are taken from the first tick on."""

    def _settle(self) -> None:
        """Begin or cease to take connections, and say so."""
        now = time.monotonic()
        if self._shutdown.reason_unready is not None:
            self._table.beat(self._index, now, self._shutdown.reason_unready, None)
        opens = self._table.opens(self._index, now)
        if opens and self._door is None:
            self._door = Door(self._listening, self._protocol, self._yields)
        elif not opens and self._door is not None:
            self._door.close()
            self._door = None
        self._count()
        super()._settle()

    def _closes(self) -> bool:
        return not self._table.standing(self._index, time.monotonic()).ready

    def _drained(self) -> bool:
        return super()._drained() and not (self._arriving() and not self._shutdown.overdue)

    async def _close(self) -> None:
        """Leave what waits in the socket to the others, unless all leave with work unfinished."""
        door = self._door
        if door is not None:
            door.close()
            await door.wait_closed()
        if self._all_leave and self._shutdown.overdue:
            await take_last(self._listening, self._protocol)

    def _count(self) -> int:
        held = len(self.server_state.connections) + self._arriving()
        self._table.hold(self._index, held)
        return held

    def _arriving(self) -> int:
        return len(self._door.arriving) if self._door is not None else 0

    def _yields(self) -> bool:
        fewest = self._table.fewest_held(self._index, time.monotonic())
        return fewest is not None and self._count() > fewest
