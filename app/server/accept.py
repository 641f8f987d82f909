"""Accepting connections from a socket that several processes share, and emptying its backlog."""

import asyncio
import ctypes
import logging
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

logger = logging.getLogger(__name__)

BACKLOG = 2048  # established connections that may wait in the socket
YIELD_S = 0.006  # for another process to accept: its event loop may be busy or wait for a core
MAX_YIELDS = 3  # for one connection; if it still waits then, the other processes may be stuck
PAUSE_S = 1.0  # after the process has run out of file descriptors
HANDSHAKE_S = 0.1  # for handshakes that have begun when new connections are dropped

# a program for the kernel's packet filter, as (code, jump if true, jump if false, operand)
DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone: the first packet of a new connection
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)
SO_ATTACH_FILTER = 26  # Linux's number; the module socket has no name for it


class SharedAcceptor:
    """Accepts connections one by one, and lets other processes accept first if it should yield.

    Without yielding, the process that is awake first would accept all waiting connections at once.
    Clients keep their connections, so the other processes would stay idle.

    Args:
        listener: the shared socket.
        make_protocol: makes the protocol of a connection.
        should_yield: whether another process should accept the next connection.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        should_yield: Callable[[], bool],
    ) -> None:
        listener.setblocking(False)
        self.pending: set[asyncio.Task[None]] = set()  # accepted, without a protocol yet
        self._listener = listener
        self._make_protocol = make_protocol
        self._should_yield = should_yield
        self._yields = 0
        self._open = True
        self._start_reading()

    def close(self) -> None:
        """Stop accepting; the socket stays open for the other processes."""
        self._open = False
        asyncio.get_running_loop().remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Wait until each accepted connection has its protocol."""
        await asyncio.gather(*self.pending)

    def _start_reading(self) -> None:
        if self._open:
            asyncio.get_running_loop().add_reader(self._listener, self._on_readable)

    def _on_readable(self) -> None:
        loop = asyncio.get_running_loop()
        if self._yields < MAX_YIELDS and self._should_yield():
            self._yields += 1
            self._pause(YIELD_S)
            return
        self._yields = 0
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # another process was first, or the client left
            return
        except OSError as error:
            logger.error("cannot accept a connection: %s", error)
            self._pause(PAUSE_S)
            return
        task = loop.create_task(self._connect(connection))
        self.pending.add(task)
        task.add_done_callback(self.pending.discard)

    def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        loop.call_later(seconds, self._start_reading)

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with suppress(OSError):  # the client has disconnected
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._make_protocol, connection)


async def accept_backlog(
    listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol]
) -> None:
    """Accept the connections that wait in a socket before it is closed, and prevent new ones.

    The kernel has established these connections, and closing the socket would reset them. A client
    that connects later is refused as soon as the socket is closed.
    """
    drop_new_connections(listener)
    await asyncio.sleep(HANDSHAKE_S)
    loop = asyncio.get_running_loop()
    listener.setblocking(False)
    for _ in range(BACKLOG):
        try:
            connection, _ = listener.accept()
            connection.setblocking(False)
            await loop.connect_accepted_socket(make_protocol, connection)
        except BlockingIOError:  # none is left
            return
        except ConnectionError:  # the client has disconnected
            continue
        except OSError as error:  # no file descriptor is free
            logger.error("cannot accept the last connections: %s", error)
            return


def drop_new_connections(listener: socket.socket) -> None:
    """Drop the first packet of each new connection, for all processes that share the socket."""
    if sys.platform == "linux":  # other systems reset the connections of the last 0.1 s
        code = b"".join(struct.pack("HBBI", *each) for each in DROP_SYN)
        program = ctypes.create_string_buffer(code)
        pointer = struct.pack("HP", len(DROP_SYN), ctypes.addressof(program))
        with suppress(OSError):  # the kernel lacks packet filters, or a sandbox forbids them
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
