"""Owns HTTP/1.1 as callers of all manners speak it: patient, slow, and gone.

Knows nothing of what is asked, nor of which answers are right.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MEDIA = re.compile(rb"\r\ncontent-type: *([^;\r]+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
PIECE = 2**18  # bytes that are sent at once, by who is not slow
PIECES = 20  # of a slow upload
PAUSE_S = 1.0  # between the bytes of an upload that trickles
PATIENCE_S = 60.0
KEPT = 64  # idle connections at most
FRESH_S = 30.0  # an idle connection older than that may be about to be closed
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Reply(NamedTuple):
    """An answer; status 0 if there was none, and the reason in the body."""

    status: int
    media: str
    head: bytes
    body: bytes


class Client:
    """Callers of one server, who share its idle connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[float, Stream]] = []

    async def whole(self, request: bytes) -> Reply:
        """Send a request at once and wait for the answer."""
        pieces = [request[at : at + PIECE] for at in range(0, len(request), PIECE)]
        return await self._exchange(pieces, 0.0)

    async def halting(self, request: bytes) -> Reply:
        """Send a request that promises more than there is, wait for the answer, and hang up."""
        return await self._exchange([request], 0.0, reuse=False)

    async def slowly(self, request: bytes, seconds: float) -> Reply:
        """Send a request in pieces, over so many seconds, and wait for the answer."""
        size = -(-len(request) // PIECES)
        pieces = [request[at : at + size] for at in range(0, len(request), size)]
        return await self._exchange(pieces, seconds / PIECES)

    async def trickling(self, request: bytes) -> Reply:
        """Send the head of a request and then next to nothing, until there is an answer."""
        head, mark, body = request.partition(b"\r\n\r\n")
        pieces = [head + mark, *(body[at : at + 1] for at in range(round(PATIENCE_S / PAUSE_S)))]
        return await self._exchange(pieces, PAUSE_S)

    async def leave(self, request: bytes, part: float, after_s: float) -> None:
        """Send a part of a request, and be gone a little later."""
        async with self._new() as (_, writer):
            writer.write(request[: round(part * len(request))])
            await writer.drain()
            await asyncio.sleep(after_s)
            writer.transport.abort()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for _, (_, writer) in self._idle:
            writer.transport.abort()
        self._idle.clear()

    async def _exchange(self, pieces: list[bytes], pause_s: float, *, reuse: bool = True) -> Reply:
        reader, writer = await self._stream()
        answer = asyncio.ensure_future(read(reader))
        sent, ends = 0, time.monotonic() + PATIENCE_S
        with suppress(ConnectionError):  # what was answered before is read all the same
            for piece in pieces:
                if answer.done():
                    break
                writer.write(piece)
                await writer.drain()
                sent += 1
                if pause_s:
                    await asyncio.sleep(pause_s)
        try:
            reply = await asyncio.wait_for(answer, max(ends - time.monotonic(), PAUSE_S))
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            writer.transport.abort()
            return Reply(0, "", b"", f"{type(error).__name__}: {error}".encode())
        spent = sent < len(pieces) or CLOSES.search(reply.head)
        if not reuse or spent or len(self._idle) >= KEPT:
            writer.transport.abort()
        else:
            self._idle.append((time.monotonic(), (reader, writer)))
        return reply

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


async def read(reader: asyncio.StreamReader) -> Reply:
    """One answer.

    Raises:
        EOFError: the connection ended before it was whole.
        ValueError: it does not say how long it is.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    length, media = LENGTH.search(head), MEDIA.search(head)
    if length is None:
        raise ValueError("an answer without its length")
    body = await reader.readexactly(int(length[1]))
    return Reply(int(head[9:12]), media[1].decode() if media else "", head, body)
