"""Owns how a process takes connections from a socket of which other processes take some, too.

Knows nothing of what is spoken over a connection.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

logger = logging.getLogger(__name__)

YIELD_S = 0.002  # for another to wake up in; none comes if all are busy
PAUSE_S = 1.0  # when the system has no more connections to give


class Door:
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
        self._has_yielded = False
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
        self._has_yielded = not self._has_yielded and self._yields()
        if self._has_yielded:
            self._rest(YIELD_S)
            return
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
