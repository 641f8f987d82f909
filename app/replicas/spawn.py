"""Owns `patchserve serve` with several workers: their parent's process, and what each of them runs.

Knows nothing of the service's inside, nor when a replica is to be started anew.
"""

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from app.core.process import DRAIN_SIGNAL, START_FAILED, exit_now, usable_cores
from app.core.settings import Settings
from app.engine.placement import gpu_count
from app.replicas.affinity import cpu_affinity, gpu_for, split_cores
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.reporter import Replica
from app.replicas.supervisor import Child


class Sockets(NamedTuple):
    """What all replicas listen on: the service's, and one for the probes and /metrics, if any."""

    service: socket.socket
    ops: socket.socket | None


Run = Callable[[Settings, Sockets, Replica], None]


class ReplicaProcess(SpawnProcess):
    """The process of a replica."""

    def terminate(self) -> None:
        """Tell it to leave, by a signal that nobody else sends.

        A manager that tells all processes of a service, as systemd does, has told this one too by
        then; a second SIGTERM would end it at once.
        """
        if self.pid is not None and self.exitcode is None:
            os.kill(self.pid, DRAIN_SIGNAL)


def spawn(
    run: Run,
    settings: Settings,
    sockets: Sockets,
    table: HeartbeatTable,
    directory: str,
    index: int,
) -> Child:
    """Start the process of one replica, with its own cores and GPU, deaf to Ctrl-C.

    `run` is what the process runs; it is pickled by its name, so it is a function of a module.

    A terminal sends Ctrl-C to all processes; the parent alone hears it and tells the others.
    """
    resource_tracker.ensure_running()  # the first process would start it, and that unblocks SIGINT
    device = gpu_for(index, settings.device, gpu_count())
    mine = settings.model_copy(update={"device": device})
    process = ReplicaProcess(
        target=run,
        args=(mine, sockets, Replica(index, table, directory)),
        name=f"replica-{index}",
    )
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with cpu_affinity(split_cores(usable_cores(), settings.workers)[index]):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
    return process


def follow_parent(directory: str, within_s: float) -> None:
    """Leave when the parent has died, as if told to; nobody would start this process anew.

    Args:
        directory: what the parent can no longer remove.
        within_s: how long that may take, in seconds.
    """
    parent = parent_process()
    assert parent is not None  # noqa: S101  # replicas are spawned

    def follow() -> None:
        parent.join()
        shutil.rmtree(directory, ignore_errors=True)
        os.kill(os.getpid(), DRAIN_SIGNAL)
        threading.Event().wait(within_s)
        exit_now(START_FAILED)

    threading.Thread(target=follow, name="parent", daemon=True).start()
