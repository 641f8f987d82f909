"""Owns how a process takes connections from a socket, of which others may take some, and the last.

Knows nothing of what is spoken over a connection.
"""

import asyncio
import ctypes
import logging
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

logger = logging.getLogger(__name__)

BACKLOG = 2048  # connections that may wait in a socket
YIELD_S = 0.006  # for another to wake up in, who may wait 5 ms for the interpreter at work
MOST_YIELDS = 3  # to others for one connection: who does not wake up by then may be stuck
PAUSE_S = 1.0  # when the system has no more connections to give
HANDSHAKE_S = 0.1  # to finish what a caller has begun when no more may begin

# a program for the kernel's packet filter, as (code, if true, if false, operand)
DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the flags of the TCP header
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone: somebody wants to begin
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)
SO_ATTACH_FILTER = 26  # which Python does not name


class SharedAcceptor:
    """Takes connections one by one, and leaves one to the others first where `yields` says so.

    Whoever is awake would take all that come at once, and a connection stays where it is for as
    long as its caller keeps it: the others would idle.

    Args:
        listening: the shared socket.
        make_protocol: makes the protocol of a connection.
        yields: whether somebody else should rather have the next one.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        yields: Callable[[], bool],
    ) -> None:
        listening.setblocking(False)
        self.arriving: set[asyncio.Task[None]] = set()
        self._listening = listening
        self._make_protocol = make_protocol
        self._yields = yields
        self._yielded = 0
        self._open = True
        self._listen()

    def close(self) -> None:
        """Take no more; the socket stays open for the others."""
        self._open = False
        asyncio.get_running_loop().remove_reader(self._listening)

    async def wait_closed(self) -> None:
        """Wait for the connections that were being taken."""
        await asyncio.gather(*self.arriving)

    def _listen(self) -> None:
        if self._open:
            asyncio.get_running_loop().add_reader(self._listening, self._hear)

    def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        if self._yielded < MOST_YIELDS and self._yields():
            self._yielded += 1
            self._rest(YIELD_S)
            return
        self._yielded = 0
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionError):  # another was quicker, or the caller has left
            return
        except OSError as error:
            logger.error("cannot take a connection: %s", error)
            self._rest(PAUSE_S)
            return
        task = loop.create_task(self._take(connection))
        self.arriving.add(task)
        task.add_done_callback(self.arriving.discard)

    def _rest(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        loop.call_later(seconds, self._listen)

    async def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        with suppress(OSError):  # the caller has left
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._make_protocol, connection)


async def accept_backlog(
    listening: socket.socket, make_protocol: Callable[[], asyncio.Protocol]
) -> None:
    """Take the connections that wait in a socket which is about to be closed, and let none follow.

    Closing it would cut those off: their callers have been connected by the kernel. Who comes later
    is not connected any more, and refused as soon as the socket is closed.
    """
    drop_new_connections(listening)
    await asyncio.sleep(HANDSHAKE_S)
    loop = asyncio.get_running_loop()
    listening.setblocking(False)
    with suppress(BlockingIOError):
        for _ in range(BACKLOG):
            with suppress(ConnectionError):  # that caller has left
                connection, _ = listening.accept()
                connection.setblocking(False)
                await loop.connect_accepted_socket(make_protocol, connection)


def drop_new_connections(listening: socket.socket) -> None:
    """Drop the first packet of each new connection, in all processes that have the socket."""
    if sys.platform == "linux":  # elsewhere the last few may be cut off
        code = b"".join(struct.pack("HBBI", *each) for each in DROP_SYN)
        program = ctypes.create_string_buffer(code)
        pointer = struct.pack("HP", len(DROP_SYN), ctypes.addressof(program))
        with suppress(OSError):  # the kernel has none, or a sandbox forbids it
            listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
