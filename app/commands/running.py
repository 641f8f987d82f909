"""Owns how one process serves the app, be it the only one or one of several.

Knows nothing of flags, nor of the other processes.
"""

import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn

from app.allocator import keep_freed_memory
from app.commands.failures import LOAD_FAILED, START_FAILED, one_line
from app.connections import ConnectionLimits
from app.descriptors import allow_files
from app.images import forbid_bombs
from app.main import create_app
from app.protocol import Protocol
from app.pulse import Replica
from app.replicas import Failure
from app.settings import Settings
from app.sweep import Sweep

BESIDE = 512  # connections that are turned away, and files that are none
KEEP_ALIVE_S = 75  # longer than the common load balancers', so that they close first


def run(
    settings: Settings,
    replica: Replica | None = None,
    make_server: Callable[[uvicorn.Config], uvicorn.Server] = uvicorn.Server,
) -> Failure | None:
    """Serve until told to leave; why it could not.

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

    config = uvicorn.Config(
        create_app(settings, on_fatal=on_fatal, replica=replica),
        host=settings.host,
        port=settings.port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        http=protocol(settings),
        ws="none",
        proxy_headers=False,  # nothing asks who calls, or over what
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = make_server(config)
    # uvicorn raises again the signal that has stopped it; of the default SIGTERM the process would
    # die there, and the last lines of the log with it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        server.run()
    for handler in logging.getLogger().handlers:
        handler.flush()  # before the line that says why, which is the last
    if failures:
        return Failure(f"cannot load: {one_line(failures[0])}", LOAD_FAILED)
    if not server.started:
        return Failure("the service could not start; the log says why", START_FAILED)
    return None


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
