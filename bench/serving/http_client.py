"""A minimal HTTP/1.1 client on plain sockets, for whole requests over many connections.

A general HTTP library would use more CPU time than the servers that are measured.
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
SEND_BUFFER = 2**20  # bytes: a whole request fits, so one system call sends it
RECEIVE = 2**18  # bytes read at once
TIMEOUT_S = 30.0  # wait for responses after the last request was sent


class Response(NamedTuple):
    """A response, or the loss of its connection.

    Attributes:
        connection: the connection for the next request.
        request: index of the request.
        due: when the request should have been sent, in seconds on the monotonic clock.
        sent: when its last byte was sent.
        ended: when the response was complete.
        head: status line and headers; empty if the connection was lost.
        body: the body.
        error: why this is no response with status 200 and a body; empty if it is.
    """

    connection: "Connection"
    request: int
    due: float
    sent: float
    ended: float
    head: bytes
    body: bytes
    error: str


class Connection:
    """A socket and the state of its present request."""

    def __init__(self, address: tuple[str, int], source: str) -> None:
        self.socket = socket.create_connection(address, timeout=10, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.socket.setblocking(False)
        self.request, self.due, self.sent = -1, 0.0, 0.0
        self.unsent = memoryview(b"")
        self.received = b""
        self.broken = False  # whether the next request needs a new connection

    def push(self) -> None:
        """Send as much as the socket accepts."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return
        except ConnectionError:  # reading gives an early response or the reason
            self.broken = True
            self.unsent = memoryview(b"")
        if not self.unsent:
            self.sent = time.monotonic()

    def pull(self) -> tuple[bytes, bytes, str] | None:
        """Read; return head, body and error as soon as the response is complete, None before."""
        try:
            data = self.socket.recv(RECEIVE)
        except ConnectionError as error:
            self.broken = True
            return b"", b"", str(error)
        self.received = self.received + data if self.received else data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        length = LENGTH.search(head) if separator else None
        if length and len(body) >= int(length[1]):
            self.received = b""
            self.broken |= bool(self.unsent) or CLOSES.search(head) is not None
            good = head[9:12] == b"200" and body
            error = "" if good else (head[9:12] + b" " + body[:200]).decode(errors="replace")
            return head, body, error
        if not data or (separator and not length):
            self.broken = True
            reason = "a response without Content-Length" if data else "the connection was closed"
            return b"", b"", reason
        return None


class HttpClient:
    """The connections to one server, which send the given requests in turn.

    Args:
        port: of the server on this machine.
        requests: the requests.
        source: local address of the connections.
    """

    def __init__(self, port: int, requests: Sequence[bytes], source: str = "127.0.0.1") -> None:
        self._address = ("127.0.0.1", port)
        self._source = source
        self._requests = [memoryview(request) for request in requests]
        self._next = 0
        self._waiting: dict[int, Connection] = {}  # by file descriptor
        self._epoll = select.epoll()
        self._sockets = ExitStack()
        self._sockets.enter_context(self._epoll)

    @property
    def in_flight(self) -> int:
        """The number of requests without a response."""
        return len(self._waiting)

    def connect(self) -> Connection:
        """Open another connection."""
        connection = Connection(self._address, self._source)
        self._sockets.enter_context(connection.socket)
        return connection

    def close(self) -> None:
        """Close all connections."""
        self._sockets.close()

    def send(self, connection: Connection, due: float) -> None:
        """Send the next request; its latency counts from `due`."""
        self._next = (self._next + 1) % len(self._requests)
        connection.request, connection.due = self._next, due
        connection.sent = time.monotonic()  # replaced if the rest is sent later
        connection.unsent = self._requests[self._next]
        connection.push()
        self._waiting[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, _events(connection))

    def poll(self, seconds: float) -> list[Response]:
        """Return the complete responses; wait at most this long for the first.

        Select waits for epoll: its time limit has a resolution of microseconds, epoll's has
        milliseconds. With select on each socket, 1,900 requests/s took 0.25 cores instead of 0.15.
        """
        select.select([self._epoll], [], [], max(seconds, 0.0))
        responses = []
        for descriptor, event in self._epoll.poll(0):
            connection = self._waiting[descriptor]
            if event & select.EPOLLOUT:
                connection.push()
                self._epoll.modify(descriptor, _events(connection))
            if event & ~select.EPOLLOUT and (complete := connection.pull()) is not None:
                self._epoll.unregister(descriptor)
                del self._waiting[descriptor]
                responses.append(self._response(connection, *complete))
        return responses

    def remaining(self) -> Iterator[list[Response]]:
        """Yield the responses that come after the last request was sent."""
        ends = time.monotonic() + TIMEOUT_S
        while self._waiting and time.monotonic() < ends:
            yield self.poll(ends - time.monotonic())

    def _response(self, connection: Connection, head: bytes, body: bytes, error: str) -> Response:
        ended = time.monotonic()
        request, due, sent = connection.request, connection.due, connection.sent
        if connection.broken:
            connection.socket.close()
            connection = self.connect()
        return Response(connection, request, due, sent, ended, head, body, error)


def _events(connection: Connection) -> int:
    """What to wait for on a connection."""
    return select.EPOLLIN | (select.EPOLLOUT if connection.unsent else 0)
