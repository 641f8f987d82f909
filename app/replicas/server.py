"""Owns the server of a replica, on the socket of all: when it takes connections from it.

Knows nothing of what is served, nor of how a server leaves.
"""

import socket
import time
from types import FrameType

import uvicorn

from app.core.process import DRAIN_SIGNAL
from app.core.shutdown import Shutdown
from app.replicas.heartbeats import HeartbeatTable
from app.server.accept import SharedAcceptor, accept_backlog
from app.server.server import GracefulServer


class ReplicaServer(GracefulServer):
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
        table: HeartbeatTable,
        index: int,
    ) -> None:
        super().__init__(config, listening, shutdown)
        self._table = table
        self._index = index
        self._acceptor: SharedAcceptor | None = None
        self._all_leave = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave as any server does, and know whether all leave."""
        self._all_leave = self._all_leave or sig == DRAIN_SIGNAL
        super().handle_exit(sig, frame)

    async def _open(self) -> None:
        """Connections are taken from the first tick on."""

    def _apply_state(self) -> None:
        """Begin or cease to take connections, and say so."""
        now = time.monotonic()
        if self._shutdown.reason_unready is not None:
            self._table.beat(self._index, now, self._shutdown.reason_unready, None)
        accepts = self._table.should_accept(self._index, now)
        if accepts and self._acceptor is None:
            self._acceptor = SharedAcceptor(self._listening, self._protocol, self._yields)
        elif not accepts and self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self._count()
        super()._apply_state()

    def _sends_connection_close(self) -> bool:
        return not self._table.status(self._index, time.monotonic()).ready

    def _drained(self) -> bool:
        return super()._drained() and not (self._arriving() and not self._shutdown.overdue)

    async def _close(self) -> None:
        """Leave what waits in the socket to the others, unless all leave with work unfinished."""
        acceptor = self._acceptor
        if acceptor is not None:
            acceptor.close()
            await acceptor.wait_closed()
        if self._all_leave and self._shutdown.overdue:
            await accept_backlog(self._listening, self._protocol)

    def _count(self) -> int:
        held = len(self.server_state.connections) + self._arriving()
        self._table.set_connections(self._index, held)
        return held

    def _arriving(self) -> int:
        return len(self._acceptor.arriving) if self._acceptor is not None else 0

    def _yields(self) -> bool:
        fewest = self._table.least_connections(self._index, time.monotonic())
        return fewest is not None and self._count() > fewest
