"""Serves the app with one process or with several, and returns why the service has ended."""

import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import typer
import uvicorn
from starlette.types import ASGIApp

from app.api.routes.health import PROBES
from app.cli.console import one_line
from app.cli.startup import announce_ready
from app.core.process import (
    LOAD_FAILED,
    RUN_FAILED,
    SIGNAL_BASE,
    START_FAILED,
    USAGE_ERROR,
    ExitReason,
    catch_stop_signals,
    exit_now,
    raise_open_file_limit,
)
from app.core.settings import Settings, split_commas
from app.core.shutdown import Shutdown
from app.main import create_app, prepare_process
from app.observability import logs
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.metrics import use_replica_files
from app.replicas.reporter import Replica
from app.replicas.reserved_files import clear_gauges, create_files
from app.replicas.server import ReplicaServer
from app.replicas.spawn import Sockets, follow_parent, spawn
from app.replicas.supervisor import Supervisor
from app.server.counted import CountedConnections
from app.server.forwarded import Forwarded
from app.server.limits import ConnectionLimits
from app.server.ops import serving
from app.server.protocol import HttpProtocol
from app.server.server import MAX_OVERHEAD_S, GracefulServer
from app.server.timeouts import TimeoutTimer

logger = logging.getLogger(__name__)

MAX_REFUSED = 256  # connections beyond the limit that get a 503
OTHER_FILES = 256  # open files besides connections
LEAST_OTHER_FILES = 40  # that a service with both bundled models has open
KEEP_ALIVE_S = 75  # longer than common load balancers' idle timeouts, so they close first
MARGIN_S = 2.0  # for the end of a process on a busy machine


def address(settings: Settings, listening: socket.socket) -> str:
    """The address of the service as a URL without a path."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listening.getsockname()[1]}"


def run(
    settings: Settings,
    listening: socket.socket,
    replica: Replica | None = None,
    ops: socket.socket | None = None,
) -> ExitReason | None:
    """Serve until a stop signal.

    Args:
        settings: of the service.
        listening: the socket of the service.
        replica: the replica that this process is, if there are several.
        ops: the socket of the probes and /metrics, if they have their own.

    Returns:
        Why the service could not start or continue; None after a stop signal.

    Raises:
        ValueError, OSError: the service cannot do what the settings say.
    """
    prepare_process(settings)
    files = raise_open_file_limit(settings.max_connections + MAX_REFUSED + OTHER_FILES)
    failures: list[Exception] = []

    def on_fatal(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    shutdown = Shutdown(settings.lame_duck_s, settings.drain_timeout_s)
    configure = partial(server_config, settings, files)
    app = create_app(
        settings,
        on_fatal=on_fatal,
        replica=replica,
        shutdown=shutdown,
        serve_ops=None if ops is None else partial(serving, configure, ops),
        on_ready=partial(
            announce_ready,
            settings,
            address(settings, listening),
            first=replica is None or replica.index == 0,
        ),
    )
    if replica is None:
        logger.info("listening on %s", address(settings, listening))
    server = make_server(configure(app, lifespan="on"), listening, shutdown, replica)
    with suppress(SystemExit):  # uvicorn raises it if it cannot start
        server.run()
    return exit_reason(failures, shutdown, server)


def make_server(
    config: uvicorn.Config, listening: socket.socket, shutdown: Shutdown, replica: Replica | None
) -> GracefulServer:
    """Make the server of one process; that of a replica shares the socket with the others."""
    if replica is None:
        return GracefulServer(config, listening, shutdown)
    return ReplicaServer(config, listening, shutdown, replica.table, replica.index)


def exit_reason(
    failures: Sequence[Exception], shutdown: Shutdown, server: uvicorn.Server
) -> ExitReason | None:
    """Why a server that has ended could not start or continue; None after a stop signal."""
    if failures:
        what, status = ("continue", RUN_FAILED) if shutdown.opened else ("load", LOAD_FAILED)
        return ExitReason(f"cannot {what}: {one_line(failures[0])}", status)
    if not server.started:
        return ExitReason("the service could not start; the log says why", START_FAILED)
    return None


def server_config(settings: Settings, files: int, app: ASGIApp, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for one of our apps; without a lifespan unless an option sets it.

    Args:
        settings: of the service.
        files: the number of files that the process may have open.
        app: the app.
        options: of the configuration.
    """
    return uvicorn.Config(
        forwarded(settings, app),
        log_config=None,
        access_log=False,
        server_header=False,
        http=protocol(settings, files),
        ws="none",
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        **{"lifespan": "off"} | options,
    )


def forwarded(settings: Settings, app: ASGIApp) -> ASGIApp:
    """The app behind the proxies of the settings; the same app if there are none."""
    proxies = split_commas(settings.trusted_proxies)
    if proxies or settings.root_path:
        return Forwarded(app, proxies, settings.root_path)
    return app


def connection_counts(most: int, files: int) -> tuple[int, int]:
    """How many connections are served, and how many beyond them get a 503, with so few files."""
    if files >= most + MAX_REFUSED + LEAST_OTHER_FILES:
        return most, MAX_REFUSED
    free = max(0, files - LEAST_OTHER_FILES)  # a quarter is left for the ops port and for files
    return max(1, min(most, free // 2)), max(1, free // 4)


def protocol(settings: Settings, files: int = sys.maxsize) -> Any:
    """Return a function that makes the protocol of a connection.

    All of them share one timer and the count of connections.
    """
    served, refused = connection_counts(settings.max_connections, files)
    limits = ConnectionLimits(
        max_connections=served,
        max_refused=refused,
        max_header_bytes=settings.max_header_bytes,
        header_timeout_s=settings.header_timeout_s,
        upload_timeout_s=settings.upload_timeout_s,
        min_upload_bytes_per_s=settings.min_upload_bytes_per_s,
        min_download_bytes_per_s=settings.min_download_bytes_per_s,
        always_served=PROBES,
    )
    timer = TimeoutTimer(max_unsent_bytes=settings.max_unsent_bytes)
    return partial(HttpProtocol, limits=limits, timer=timer, counted=CountedConnections())


def run_replicas(
    settings: Settings, listening: socket.socket, ops: socket.socket | None = None
) -> ExitReason | None:
    """Serve with several processes on one socket until a stop signal.

    This process keeps the socket open too, so connections that wait in the socket survive the end
    of a replica. At shutdown this process closes the socket. The system stops listening when the
    last replica has closed it too.

    Args:
        settings: of the service.
        listening: the socket of the service.
        ops: the socket of the probes and /metrics, if they have their own.

    Returns:
        Why the service could not start or continue; None after a stop signal.
    """
    logger.info("listening on %s", address(settings, listening))
    with (
        catch_stop_signals() as stop_requested,
        TemporaryDirectory(prefix="patchserve-") as directory,
    ):
        try:
            create_files(directory, settings.workers)
        except OSError as error:
            return ExitReason(f"cannot start the replicas: {one_line(error)}", START_FAILED)
        table = HeartbeatTable(settings.workers)  # multiprocessing may place it there, too
        replicas = Supervisor(
            partial(spawn, run_replica, settings, Sockets(listening, ops), table, directory),
            table,
            stop_timeout_s=stop_timeout_s(settings),
            on_stop=listening.close,
            on_exit=partial(clear_gauges, directory),
        )
        try:
            return replicas.run(stop_requested)
        except KeyboardInterrupt as second_signal:
            raise typer.Exit(SIGNAL_BASE + second_signal.args[0]) from None


def stop_timeout_s(settings: Settings) -> float:
    """Maximum time that a replica takes to shut down, in seconds."""
    return settings.lame_duck_s + settings.drain_timeout_s + MAX_OVERHEAD_S + MARGIN_S


def run_replica(settings: Settings, sockets: Sockets, replica: Replica) -> None:
    """Run the process of one replica; the parent reads the reason of a failure from the table."""
    follow_parent(replica.directory, stop_timeout_s(settings))
    logs.configure(settings.log_level, replica.index)
    use_replica_files(replica.index, replica.directory)
    try:
        failure = run(settings, sockets.service, replica, sockets.ops)
    except (ValueError, OSError) as error:
        failure = ExitReason(one_line(error), USAGE_ERROR)
    if failure is not None:
        replica.table.fail(replica.index, failure.reason)
    exit_now(failure.status if failure is not None else 0)
