"""Owns how one process serves the app, be it the only one or one of several.

Knows nothing of flags, nor of the other processes.
"""

import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.cli.console import one_line
from app.core.descriptors import allow_files
from app.core.ending import LOAD_FAILED, RUN_FAILED, START_FAILED
from app.core.malloc import keep_freed_memory
from app.core.settings import Settings
from app.core.shutdown import Shutdown
from app.imaging.decode import forbid_bombs
from app.main import create_app
from app.replicas.reporter import Replica
from app.replicas.server import ReplicaServer
from app.replicas.supervisor import Failure
from app.server.limits import ConnectionLimits
from app.server.ops import serving
from app.server.protocol_old import Protocol
from app.server.server import Server
from app.server.sweep import Sweep

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
) -> Failure | None:
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
        server = Server(config, listening, shutdown)
    else:
        server = ReplicaServer(config, listening, shutdown, replica.table, replica.index)
    with suppress(SystemExit):  # uvicorn's way to say that it has not started
        server.run()
    return failure(failures, shutdown, server)


def failure(
    failures: Sequence[Exception], shutdown: Shutdown, server: uvicorn.Server
) -> Failure | None:
    """Why a server that has ended could not serve, or not go on; None if it was told to leave."""
    if failures:
        what, status = ("go on", RUN_FAILED) if shutdown.opened else ("load", LOAD_FAILED)
        return Failure(f"cannot {what}: {one_line(failures[0])}", status)
    if not server.started:
        return Failure("the service could not start; the log says why", START_FAILED)
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
    """What uvicorn makes of each connection; all of them have one sweep."""
    limits = ConnectionLimits(
        max_connections=settings.max_connections,
        max_header_bytes=settings.max_header_bytes,
        header_timeout_s=settings.header_timeout_s,
        upload_timeout_s=settings.upload_timeout_s,
        min_upload_bytes_per_s=settings.min_upload_bytes_per_s,
    )
    return partial(Protocol, limits=limits, sweep=Sweep())
