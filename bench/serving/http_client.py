"""Owns HTTP/1.1 as little as it takes: requests sent whole, answers read, on bare sockets.

Knows nothing of when to ask, nor of what an answer means: an HTTP library would need more of the
processor than the servers do.
"""

import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
SEND_BUFFER = 2**20  # bytes: a whole request goes in one call
RECEIVE = 2**18
PATIENCE_S = 30.0  # for what is still in flight when the last request was sent


class Answer(NamedTuple):
    """One answer; what is wrong with it, if anything is, and the socket to send the next on.

    Attributes:
        asked: when the request was to be sent; sent: when its last byte was; ended: when all of
            the answer was there. On the monotonic clock, in seconds.
        head: status line and headers; nothing of them if the connection was lost.
        error: why it is no answer, or not one of 200.
    """

    connection: "Connection"
    request: int
    asked: float
    sent: float
    ended: float
    head: bytes
    body: bytes
    error: str


class Connection:
    """A socket and where its present request stands."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.socket.setblocking(False)
        self.request, self.asked, self.sent = -1, 0.0, 0.0
        self.unsent = memoryview(b"")
        self.received = b""
        self.broken = False  # for the next request

    def push(self) -> None:
        """Send what the socket takes."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return
        except ConnectionError:  # what the server said before, or the reason, is read
            self.broken = True
            self.unsent = memoryview(b"")
        if not self.unsent:
            self.sent = time.monotonic()

    def pull(self) -> tuple[bytes, bytes, str] | None:
        """The head, the body and what is wrong, once the answer is whole."""
        try:
            data = self.socket.recv(RECEIVE)
        except ConnectionError as error:
            self.broken = True
            return b"", b"", str(error)
        self.received = self.received + data if self.received else data
        head, found, body = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head) if found else None
        if length and len(body) >= int(length[1]):
            self.received = b""
            self.broken |= bool(self.unsent) or CLOSES.search(head) is not None
            good = head[9:12] == b"200" and body
            error = "" if good else (head[9:12] + b" " + body[:200]).decode(errors="replace")
            return head, body, error
        if not data or (found and not length):
            self.broken = True
            why = "an answer without its length" if data else "the connection was closed"
            return b"", b"", why
        return None


class Wire:
    """The connections to one server, and the requests that may be sent, by their number."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self._address = ("127.0.0.1", port)
        self._requests = [memoryview(request) for request in requests]
        self._next = 0
        self._waiting: dict[socket.socket, Connection] = {}
        self._sockets = ExitStack()

    @property
    def in_flight(self) -> int:
        """Requests without an answer yet."""
        return len(self._waiting)

    def connect(self) -> Connection:
        """One more connection."""
        connection = Connection(self._address)
        self._sockets.enter_context(connection.socket)
        return connection

    def close(self) -> None:
        """Close all connections."""
        self._sockets.close()

    def send(self, connection: Connection, asked: float) -> None:
        """Ask the next question in turn; its latency counts from `asked`."""
        self._next = (self._next + 1) % len(self._requests)
        connection.request, connection.asked = self._next, asked
        connection.sent = time.monotonic()  # until more of it is
        connection.unsent = self._requests[self._next]
        self._waiting[connection.socket] = connection
        connection.push()

    def poll(self, seconds: float) -> list[Answer]:
        """The answers that are there; waits for the first, but no longer than so many seconds.

        select and not epoll: its patience is counted in microseconds, not milliseconds.
        """
        unsent = [s for s, connection in self._waiting.items() if connection.unsent]
        readable, writable, _ = select.select(list(self._waiting), unsent, [], max(seconds, 0.0))
        for ready in writable:
            self._waiting[ready].push()
        answers = []
        for ready in readable:
            connection = self._waiting[ready]
            if (whole := connection.pull()) is not None:
                del self._waiting[ready]
                answers.append(self._answer(connection, *whole))
        return answers

    def remaining(self) -> Iterator[list[Answer]]:
        """What is answered after the last request was sent."""
        ends = time.monotonic() + PATIENCE_S
        while self._waiting and time.monotonic() < ends:
            yield self.poll(ends - time.monotonic())

    def _answer(self, connection: Connection, head: bytes, body: bytes, error: str) -> Answer:
        ended = time.monotonic()
        request, asked, sent = connection.request, connection.asked, connection.sent
        if connection.broken:
            connection.socket.close()
            connection = self.connect()
        return Answer(connection, request, asked, sent, ended, head, body, error)
