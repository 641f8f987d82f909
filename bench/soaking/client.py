"""An HTTP/1.1 client that can send slowly, stop early, or disconnect."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MEDIA = re.compile(rb"\r\ncontent-type: *([^;\r]+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
PIECE = 2**18  # bytes sent at once
PIECES = 20  # of a slow upload
PAUSE_S = 1.0  # between the single bytes of a stalled upload
TIMEOUT_S = 60.0  # for a response
KEPT = 64  # maximum of idle connections
FRESH_S = 30.0  # the server may be about to close a connection that is idle for longer
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Response(NamedTuple):
    """A response; status 0 without one, with the reason in the body."""

    status: int
    media: str
    head: bytes
    body: bytes


class Client:
    """Clients of one server, which share its idle connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[float, Stream]] = []

    async def send(self, request: bytes) -> Response:
        """Send a request without pauses and return the response."""
        pieces = [request[at : at + PIECE] for at in range(0, len(request), PIECE)]
        return await self._exchange(pieces, 0.0)

    async def send_incomplete(self, request: bytes) -> Response:
        """Send a request that is shorter than declared, return the response, and disconnect."""
        return await self._exchange([request], 0.0, reuse=False)

    async def send_slowly(self, request: bytes, seconds: float) -> Response:
        """Send a request in pieces over some seconds and return the response."""
        size = -(-len(request) // PIECES)
        pieces = [request[at : at + size] for at in range(0, len(request), size)]
        return await self._exchange(pieces, seconds / PIECES)

    async def send_stalled(self, request: bytes) -> Response:
        """Send the head, then one byte per second, until there is a response."""
        head, mark, body = request.partition(b"\r\n\r\n")
        pieces = [head + mark, *(body[at : at + 1] for at in range(round(TIMEOUT_S / PAUSE_S)))]
        return await self._exchange(pieces, PAUSE_S)

    async def disconnect(self, request: bytes, fraction: float, after_s: float) -> None:
        """Send the first part of a request and disconnect a little later."""
        async with self._new() as (_, writer):
            writer.write(request[: round(fraction * len(request))])
            await writer.drain()
            await asyncio.sleep(after_s)
            writer.transport.abort()

    def close(self) -> None:
        """Close the idle connections."""
        for _, (_, writer) in self._idle:
            writer.transport.abort()
        self._idle.clear()

    async def _exchange(
        self, pieces: list[bytes], pause_s: float, *, reuse: bool = True
    ) -> Response:
        reader, writer = await self._stream()
        reading = asyncio.ensure_future(read(reader))
        sent, ends = 0, time.monotonic() + TIMEOUT_S
        with suppress(ConnectionError):  # an early response can still be read
            for piece in pieces:
                if reading.done():
                    break
                writer.write(piece)
                await writer.drain()
                sent += 1
                if pause_s:
                    await asyncio.sleep(pause_s)
        try:
            response = await asyncio.wait_for(reading, max(ends - time.monotonic(), PAUSE_S))
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            writer.transport.abort()
            return Response(0, "", b"", f"{type(error).__name__}: {error}".encode())
        used_up = sent < len(pieces) or CLOSES.search(response.head)
        if not reuse or used_up or len(self._idle) >= KEPT:
            writer.transport.abort()
        else:
            self._idle.append((time.monotonic(), (reader, writer)))
        return response

    async def _stream(self) -> Stream:
        while self._idle:
            since, stream = self._idle.pop()
            if time.monotonic() - since < FRESH_S and not stream[0].at_eof():
                return stream
            stream[1].transport.abort()
        return await asyncio.open_connection("127.0.0.1", self._port)

    @asynccontextmanager
    async def _new(self) -> AsyncIterator[Stream]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            with suppress(ConnectionError):
                yield reader, writer
        finally:
            writer.transport.abort()


async def read(reader: asyncio.StreamReader) -> Response:
    """Read one response.

    Raises:
        EOFError: the connection ended before the response was complete.
        ValueError: it has no Content-Length.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length, media = LENGTH.search(head), MEDIA.search(head)
    if length is None:
        raise ValueError("a response without Content-Length")
    body = await reader.readexactly(int(length[1]))
    return Response(int(head[9:12]), media[1].decode() if media else "", head, body)
