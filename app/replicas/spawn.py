"""Starts the process of a replica on its cores and GPU, and ends it when its parent dies."""

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from app.core.cores import core_count, usable_cores
from app.core.process import DRAIN_SIGNAL, START_FAILED, exit_now
from app.core.settings import Settings
from app.engine.placement import gpu_count
from app.replicas.affinity import core_share, cpu_affinity, gpu_for, gpu_share, split_cores
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.reporter import Replica
from app.replicas.supervisor import Child


class Sockets(NamedTuple):
    """The sockets of all replicas: of the service, and of the probes and /metrics, if separate."""

    service: socket.socket
    ops: socket.socket | None


Run = Callable[[Settings, Sockets, Replica], None]


class ReplicaProcess(SpawnProcess):
    """The process of a replica."""

    def terminate(self) -> None:
        """Ask the process to drain, by a signal that only the parent sends.

        A service manager such as systemd sends SIGTERM to all processes of a service, and a second
        SIGTERM would end this process at once.
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
    """Start the process of one replica, with its own cores and GPU, and SIGINT blocked.

    A terminal sends Ctrl-C to all processes. Only the parent handles it, and stops the replicas.

    Args:
        run: what the process runs; a function at the top of a module, as it is pickled by name.
        settings: the settings of the service.
        sockets: the sockets of all replicas.
        table: the heartbeats of all replicas.
        directory: the folder with the metrics of all replicas.
        index: the number of the replica.
    """
    resource_tracker.ensure_running()  # otherwise `start` does it, which unblocks SIGINT
    gpus = gpu_count()
    device = gpu_for(index, settings.device, gpus)
    part = gpu_share(index, settings.device, gpus, settings.workers)
    cores = split_cores(usable_cores(), settings.workers)[index]
    share = core_share(settings.cores or core_count(), settings.workers, cores)
    replica_settings = settings.model_copy(update={"device": device, "cores": share})
    process = ReplicaProcess(
        target=run,
        args=(replica_settings, sockets, Replica(index, table, directory, part)),
        name=f"replica-{index}",
    )
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with cpu_affinity(cores):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
    return process


def follow_parent(directory: str, timeout_s: float) -> None:
    """Drain and exit when the parent dies, because no process would restart this one.

    Args:
        directory: the folder with the metrics, which the parent can no longer remove.
        timeout_s: time for the drain, in seconds.
    """
    parent = parent_process()
    assert parent is not None  # noqa: S101  # replicas are spawned

    def follow() -> None:
        parent.join()
        shutil.rmtree(directory, ignore_errors=True)
        os.kill(os.getpid(), DRAIN_SIGNAL)
        threading.Event().wait(timeout_s)
        exit_now(START_FAILED)

    threading.Thread(target=follow, name="parent", daemon=True).start()
