"""Owns `patchserve serve` with several workers: their parent's process, and what each of them runs.

Knows nothing of the service's inside, nor when a replica is to be started anew.
"""

import logging
import os
import shutil
import signal
import socket
import sys
import threading
from functools import partial
from multiprocessing import get_context, parent_process, resource_tracker
from tempfile import TemporaryDirectory
from typing import NamedTuple

import typer

from app import logs
from app.commands.failures import START_FAILED, USAGE_ERROR, one_line
from app.commands.listening import listen
from app.commands.running import run
from app.commands.signals import INTERRUPTED, stopping
from app.heartbeats import Heartbeats
from app.lifecycle import ReplicaServer
from app.placement import gpu_count
from app.pulse import Replica
from app.replicas import LEAVE_S, Child, Failure, Replicas
from app.settings import Settings
from app.shared_metrics import count_apart, forget
from app.shares import confined, device_of, divide, usable

logger = logging.getLogger(__name__)


class Sockets(NamedTuple):
    """What all replicas listen on: the service's, and one for the probes and /metrics, if any."""

    service: socket.socket
    ops: socket.socket | None


def run_replicas(settings: Settings, ops: socket.socket | None = None) -> Failure | None:
    """Serve with several processes on one socket until told to leave; why they could not.

    Args:
        settings: what the operator decided.
        ops: another socket of all of them, for the probes and /metrics.
    """
    with (
        listen(settings.host, settings.port) as listening,
        TemporaryDirectory(prefix="patchserve-") as directory,
    ):
        logger.info(
            "%d replicas listen on http://%s:%d",
            settings.workers,
            settings.host,
            listening.getsockname()[1],
        )
        table = Heartbeats(settings.workers)
        replicas = Replicas(
            settings.workers,
            partial(spawn, settings, Sockets(listening, ops), table, directory),
            table,
            on_death=partial(forget, directory=directory),
        )
        with stopping() as told:
            try:
                return replicas.run(told)
            except KeyboardInterrupt:  # told twice
                raise typer.Exit(INTERRUPTED) from None


def spawn(
    settings: Settings, sockets: Sockets, table: Heartbeats, directory: str, index: int
) -> Child:
    """Start the process of one replica, with its own cores and GPU, deaf to Ctrl-C.

    A terminal sends Ctrl-C to all processes; the parent alone hears it and tells the others.
    """
    resource_tracker.ensure_running()  # the first process would start it, and that unblocks SIGINT
    device = device_of(index, settings.device, gpu_count())
    mine = settings.model_copy(update={"device": device})
    process = get_context("spawn").Process(
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
    follow_parent(replica.directory)
    count_apart(replica.index, replica.directory)
    logs.configure(settings.log_level, replica.index)
    try:
        failure = run(
            settings,
            replica,
            lambda config: ReplicaServer(config, sockets.service, replica.table, replica.index),
            sockets.ops,
        )
    except (ValueError, OSError) as error:
        failure = Failure(one_line(error), USAGE_ERROR)
    if failure is not None:
        replica.table.fail(replica.index, failure.reason)
        sys.exit(failure.status)


def follow_parent(directory: str) -> None:
    """Leave when the parent has died, as if told to; nobody would start this process anew.

    Args:
        directory: what the parent can no longer remove.
    """
    parent = parent_process()
    assert parent is not None  # noqa: S101  # replicas are spawned

    def follow() -> None:
        parent.join()
        shutil.rmtree(directory, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(LEAVE_S)
        os._exit(START_FAILED)

    threading.Thread(target=follow, name="parent", daemon=True).start()
