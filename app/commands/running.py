"""Owns how one process serves the app, be it the only one or one of several.

Knows nothing of flags, nor of the other processes.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn

from app.allocator import keep_freed_memory
from app.commands.failures import one_line, stop
from app.doors import BACKLOG
from app.ending import LOAD_FAILED, RUN_FAILED, START_FAILED
from app.images import forbid_bombs
from app.lifecycle import Server
from app.main import create_app
from app.protocol import Protocol
from app.pulse import Replica
from app.replicas import Failure
from app.settings import Settings
from app.shared_server import ReplicaServer
from app.shutdown import Shutdown

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75  # longer than the common load balancers', so that they close first


@contextmanager
def listen(settings: Settings) -> Iterator[socket.socket]:
    """The socket of the service; of several replicas all have it, and so does their parent."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why, _, _ = (error.strerror or str(error)).partition(" (")  # the address, once more
        stop(f"cannot listen on {host}:{port}: {why.lower()}", START_FAILED)
    with listening:
        yield listening


def say_where(settings: Settings, listening: socket.socket) -> None:
    """Log the address of the service."""
    logger.info("listening on http://%s:%d", settings.host, listening.getsockname()[1])


def run(
    settings: Settings, listening: socket.socket, replica: Replica | None = None
) -> Failure | None:
    """Serve until told to leave; why it could not.

    Raises:
        ValueError, OSError: the settings ask for what is not there.
    """
    forbid_bombs(settings.max_image_pixels)
    keep_freed_memory()
    failures: list[Exception] = []

    def on_fatal(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    shutdown = Shutdown(settings.lame_duck_s, settings.drain_timeout_s)
    config = uvicorn.Config(
        create_app(settings, on_fatal=on_fatal, replica=replica, shutdown=shutdown),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        http=Protocol,
        proxy_headers=False,  # nothing asks who calls, or over what
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    if replica is None:
        say_where(settings, listening)
        server = Server(config, listening, shutdown)
    else:
        server = ReplicaServer(config, listening, shutdown, replica.table, replica.index)
    with suppress(SystemExit):  # uvicorn's way to say that it has not started
        server.run()
    if failures:
        what, status = ("go on", RUN_FAILED) if shutdown.opened else ("load", LOAD_FAILED)
        return Failure(f"cannot {what}: {one_line(failures[0])}", status)
    if not server.started:
        return Failure("the service could not start; the log says why", START_FAILED)
    return None
