"""The server of a replica: when it accepts connections from the socket of all replicas."""

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
    """A server on the socket of all replicas, which accepts connections if the table allows it.

    While the replica is not ready, each response closes its connection. The client's next request
    then opens a new connection, which a ready replica can accept.

    Args:
        config: uvicorn's configuration; its host and port are not used.
        listener: the socket; it stays open while the parent or any replica has it.
        shutdown: the state of this replica's shutdown.
        table: the heartbeats of all replicas.
        index: the number of this replica.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        shutdown: Shutdown,
        table: HeartbeatTable,
        index: int,
    ) -> None:
        super().__init__(config, listener, shutdown)
        self._table = table
        self._index = index
        self._acceptor: SharedAcceptor | None = None
        self._all_stop = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal as any server does; the parent's signal means that all replicas stop."""
        self._all_stop = self._all_stop or sig == DRAIN_SIGNAL
        super().handle_exit(sig, frame)

    async def _start_accepting(self) -> None:
        """Do nothing: the first tick starts the acceptor."""

    def _apply_state(self) -> None:
        """Start or stop accepting connections, and update the table."""
        now = time.monotonic()
        if self._shutdown.reason_unready is not None:
            self._table.beat(self._index, now, self._shutdown.reason_unready, None)
        accepts = self._table.should_accept(self._index, now)
        if accepts and self._acceptor is None:
            self._acceptor = SharedAcceptor(self._listener, self._make_protocol, self._should_yield)
        elif not accepts and self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
        self._count_connections()
        super()._apply_state()

    def _sends_connection_close(self) -> bool:
        return not self._table.status(self._index, time.monotonic()).ready

    def _drained(self) -> bool:
        return super()._drained() and (self._shutdown.overdue or not self._pending())

    async def _stop_accepting(self) -> None:
        """Leave waiting connections to the other replicas, unless all stop and are overdue."""
        acceptor = self._acceptor
        if acceptor is not None:
            acceptor.close()
            await acceptor.wait_closed()
        if self._all_stop and self._shutdown.overdue:
            await accept_backlog(self._listener, self._make_protocol)

    def _count_connections(self) -> int:
        count = len(self.server_state.connections) + self._pending()
        self._table.set_connections(self._index, count)
        return count

    def _pending(self) -> int:
        return len(self._acceptor.pending) if self._acceptor is not None else 0

    def _should_yield(self) -> bool:
        fewest = self._table.least_connections(self._index, time.monotonic())
        return fewest is not None and self._count_connections() > fewest
