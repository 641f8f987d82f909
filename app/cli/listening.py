"""Owns how a command takes an address, and what it says of one that it cannot have.

Knows nothing of what is served there.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from app.cli.console import stop
from app.core.ending import START_FAILED
from app.server.accept import BACKLOG


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at an address; what waits in it outlives any process that has it but the last."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why, _, _ = (error.strerror or str(error)).partition(" (")  # the address, once more
        stop(f"cannot listen on {host}:{port}: {why.lower()}", START_FAILED)
    with listening:
        yield listening


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, or every address
        return False
