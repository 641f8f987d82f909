"""Owns how one process serves the app, be it the only one or one of several.

Knows nothing of flags, nor of the other processes.
"""

import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import typer
import uvicorn
from starlette.types import ASGIApp

from app.cli.console import one_line
from app.core.malloc import keep_freed_memory
from app.core.process import (
    LOAD_FAILED,
    RUN_FAILED,
    SIGNAL_BASE,
    START_FAILED,
    USAGE_ERROR,
    ExitReason,
    allow_files,
    exit_now,
    stopping,
)
from app.core.settings import Settings
from app.core.shutdown import Shutdown
from app.imaging.decode import forbid_bombs
from app.main import create_app
from app.observability import logs
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.metrics import remove_gauges, use_replica_files
from app.replicas.reporter import Replica
from app.replicas.server import ReplicaServer
from app.replicas.spawn import Sockets, follow_parent, spawn
from app.replicas.supervisor import Supervisor
from app.server.limits import ConnectionLimits
from app.server.ops import serving
from app.server.protocol import HttpProtocol
from app.server.server import MAX_OVERHEAD_S, GracefulServer
from app.server.timeouts import TimeoutTimer

logger = logging.getLogger(__name__)

BESIDE = 512  # connections that are turned away, and files that are none
KEEP_ALIVE_S = 75  # longer than the common load balancers', so that they close first


def say_where(settings: Settings, listening: socket.socket) -> None:
    """Log the address of the service."""
    logger.info("listening on http://%s:%d", settings.host, listening.getsockname()[1])


def run(
    settings: Settings,
    listening: socket.socket,
    replica: Replica | None = None,
    ops: socket.socket | None = None,
) -> ExitReason | None:
    """Serve until told to leave; why it could not.

    Args:
        settings: what the operator decided.
        listening: the socket of the service.
        replica: which of several this process is; None when it is the only one.
        ops: where the probes and /metrics are served, if not with the rest.

    Raises:
        ValueError, OSError: the settings ask for what is not there.
    """
    forbid_bombs(settings.max_image_pixels)
    keep_freed_memory()
    allow_files(settings.max_connections + BESIDE)
    failures: list[Exception] = []

    def on_fatal(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    shutdown = Shutdown(settings.lame_duck_s, settings.drain_timeout_s)
    configure = partial(configured, settings)
    app = create_app(
        settings,
        on_fatal=on_fatal,
        replica=replica,
        shutdown=shutdown,
        serve_ops=None if ops is None else partial(serving, configure, ops),
    )
    config = configure(app, lifespan="on")
    if replica is None:
        say_where(settings, listening)
        server = GracefulServer(config, listening, shutdown)
    else:
        server = ReplicaServer(config, listening, shutdown, replica.table, replica.index)
    with suppress(SystemExit):  # uvicorn's way to say that it has not started
        server.run()
    return failure(failures, shutdown, server)


def failure(
    failures: Sequence[Exception], shutdown: Shutdown, server: uvicorn.Server
) -> ExitReason | None:
    """Why a server that has ended could not serve, or not go on; None if it was told to leave."""
    if failures:
        what, status = ("go on", RUN_FAILED) if shutdown.opened else ("load", LOAD_FAILED)
        return ExitReason(f"cannot {what}: {one_line(failures[0])}", status)
    if not server.started:
        return ExitReason("the service could not start; the log says why", START_FAILED)
    return None


def configured(settings: Settings, app: ASGIApp, **options: Any) -> uvicorn.Config:
    """How uvicorn serves an app of ours, without a lifespan unless the options say so."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http=protocol(settings),
        ws="none",
        proxy_headers=False,  # nothing asks who calls, or over what
        timeout_keep_alive=KEEP_ALIVE_S,
        **{"lifespan": "off"} | options,
    )


def protocol(settings: Settings) -> Any:
    """What uvicorn makes of each connection; all of them share one timer."""
    limits = ConnectionLimits(
        max_connections=settings.max_connections,
        max_header_bytes=settings.max_header_bytes,
        header_timeout_s=settings.header_timeout_s,
        upload_timeout_s=settings.upload_timeout_s,
        min_upload_bytes_per_s=settings.min_upload_bytes_per_s,
    )
    return partial(HttpProtocol, limits=limits, timer=TimeoutTimer())


MARGIN_S = 2.0  # for a busy machine to end a process


def run_replicas(
    settings: Settings, listening: socket.socket, ops: socket.socket | None = None
) -> ExitReason | None:
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
        table = HeartbeatTable(settings.workers)
        replicas = Supervisor(
            partial(spawn, run_replica, settings, Sockets(listening, ops), table, directory),
            table,
            stop_timeout_s=leave_s(settings),
            on_stop=listening.close,
            on_exit=partial(remove_gauges, directory=directory),
        )
        try:
            return replicas.run(told)
        except KeyboardInterrupt as twice:
            raise typer.Exit(SIGNAL_BASE + twice.args[0]) from None


def leave_s(settings: Settings) -> float:
    """Seconds that a replica may take to leave."""
    return settings.lame_duck_s + settings.drain_timeout_s + MAX_OVERHEAD_S + MARGIN_S


def run_replica(settings: Settings, sockets: Sockets, replica: Replica) -> None:
    """What the process of one replica runs; the parent reads from the table why it failed."""
    follow_parent(replica.directory, leave_s(settings))
    use_replica_files(replica.index, replica.directory)
    logs.configure(settings.log_level, replica.index)
    try:
        failure = run(settings, sockets.service, replica, sockets.ops)
    except (ValueError, OSError) as error:
        failure = ExitReason(one_line(error), USAGE_ERROR)
    if failure is not None:
        replica.table.fail(replica.index, failure.reason)
    exit_now(failure.status if failure is not None else 0)
