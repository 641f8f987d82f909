"""Owns how one process serves the app, be it the only one or one of several.

Knows nothing of flags, nor of the other processes.
"""

import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.allocator import keep_freed_memory
from app.commands.failures import LOAD_FAILED, START_FAILED, one_line
from app.images import forbid_bombs
from app.main import create_app
from app.ops import serving
from app.protocol import Protocol
from app.pulse import Replica
from app.replicas import Failure
from app.settings import Settings

KEEP_ALIVE_S = 75  # longer than the common load balancers', so that they close first


def run(
    settings: Settings,
    replica: Replica | None = None,
    make_server: Callable[[uvicorn.Config], uvicorn.Server] = uvicorn.Server,
    ops: socket.socket | None = None,
) -> Failure | None:
    """Serve until told to leave; why it could not.

    Args:
        settings: what the operator decided.
        replica: which of several this process is; None when it is the only one.
        make_server: makes the server.
        ops: where the probes and /metrics are served, if not with the rest.

    Raises:
        ValueError, OSError: the settings ask for what is not there.
    """
    forbid_bombs(settings.max_image_pixels)
    keep_freed_memory()
    failures: list[Exception] = []

    def on_fatal(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    serve_ops = None if ops is None else partial(serving, configured, ops)
    app = create_app(settings, on_fatal=on_fatal, replica=replica, serve_ops=serve_ops)
    server = make_server(configured(app, host=settings.host, port=settings.port, lifespan="on"))
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


def configured(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """How uvicorn serves an app of ours, without a lifespan unless the options say so."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http=Protocol,
        proxy_headers=False,  # nothing asks who calls, or over what
        timeout_keep_alive=KEEP_ALIVE_S,
        **{"lifespan": "off"} | options,
    )
