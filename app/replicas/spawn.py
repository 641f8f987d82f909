"""Owns `patchserve serve` with several workers: their parent's process, and what each of them runs.

Knows nothing of the service's inside, nor when a replica is to be started anew.
"""

import os
import shutil
import signal
import socket
import threading
from functools import partial
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnProcess
from tempfile import TemporaryDirectory
from typing import NamedTuple

import typer

from app.cli.console import one_line
from app.cli.run import run, say_where
from app.core.ending import BY_SIGNAL, LEAVE, START_FAILED, USAGE_ERROR, end
from app.core.process import stopping
from app.core.settings import Settings
from app.engine.placement import gpu_count
from app.observability import logs
from app.replicas.affinity import confined, device_of, divide, usable
from app.replicas.heartbeats import Heartbeats
from app.replicas.metrics import count_apart, forget
from app.replicas.reporter import Replica
from app.replicas.supervisor import Child, Failure, Replicas
from app.server.server import LATEST_S

MARGIN_S = 2.0  # for a busy machine to end a process


class Sockets(NamedTuple):
    """What all replicas listen on: the service's, and one for the probes and /metrics, if any."""

    service: socket.socket
    ops: socket.socket | None


class ReplicaProcess(SpawnProcess):
    """The process of a replica."""

    def terminate(self) -> None:
        """Tell it to leave, by a signal that nobody else sends.

        A manager that tells all processes of a service, as systemd does, has told this one too by
        then; a second SIGTERM would end it at once.
        """
        if self.pid is not None and self.exitcode is None:
            os.kill(self.pid, LEAVE)


def run_replicas(
    settings: Settings, listening: socket.socket, ops: socket.socket | None = None
) -> Failure | None:
    """Serve with several processes on one socket until told to leave; why they could not.

    What waits in the socket outlives any of them, for this process has it, too. When they leave it
    lets go of it: the last of them that does closes it.

    Args:
        settings: what the operator decided.
        listening: the socket.
        ops: another one of all of them, for the probes and /metrics.
    """
    say_where(settings, listening)
    with stopping() as told, TemporaryDirectory(prefix="patchserve-") as directory:
        table = Heartbeats(settings.workers)
        replicas = Replicas(
            partial(spawn, settings, Sockets(listening, ops), table, directory),
            table,
            leave_s=leave_s(settings),
            on_leave=listening.close,
            on_death=partial(forget, directory=directory),
        )
        try:
            return replicas.run(told)
        except KeyboardInterrupt as twice:
            raise typer.Exit(BY_SIGNAL + twice.args[0]) from None


def leave_s(settings: Settings) -> float:
    """Seconds that a replica may take to leave."""
    return settings.lame_duck_s + settings.drain_timeout_s + LATEST_S + MARGIN_S


def spawn(
    settings: Settings, sockets: Sockets, table: Heartbeats, directory: str, index: int
) -> Child:
    """Start the process of one replica, with its own cores and GPU, deaf to Ctrl-C.

    A terminal sends Ctrl-C to all processes; the parent alone hears it and tells the others.
    """
    resource_tracker.ensure_running()  # the first process would start it, and that unblocks SIGINT
    device = device_of(index, settings.device, gpu_count())
    mine = settings.model_copy(update={"device": device})
    process = ReplicaProcess(
        target=run_replica,
        args=(mine, sockets, Replica(index, table, directory)),
        name=f"replica-{index}",
    )
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with confined(divide(usable(), settings.workers)[index]):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
    return process


def run_replica(settings: Settings, sockets: Sockets, replica: Replica) -> None:
    """What the process of one replica runs; the parent reads from the table why it failed."""
    follow_parent(replica.directory, leave_s(settings))
    count_apart(replica.index, replica.directory)
    logs.configure(settings.log_level, replica.index)
    try:
        failure = run(settings, sockets.service, replica, sockets.ops)
    except (ValueError, OSError) as error:
        failure = Failure(one_line(error), USAGE_ERROR)
    if failure is not None:
        replica.table.fail(replica.index, failure.reason)
    end(failure.status if failure is not None else 0)


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
        os.kill(os.getpid(), LEAVE)
        threading.Event().wait(within_s)
        end(START_FAILED)

    threading.Thread(target=follow, name="parent", daemon=True).start()
