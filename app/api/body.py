"""Reads a request body: the image file and parameters; raw, multipart or JSON, within limits."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple, Self

from python_multipart.multipart import parse_options_header

from app.api.json_body import is_json, read_json
from app.api.multipart import read_form
from app.core.errors import (
    RETRY_AFTER_S,
    ClientGone,
    EmptyBody,
    MalformedRequest,
    Overloaded,
    PayloadTooLarge,
    UnsupportedImageFormat,
)
from app.core.scope import Receive

NUMBER = re.compile(r"[0-9]{1,19}")
MAX_BYTES_PARSED_ON_LOOP = 2**20  # takes less than 0.5 ms; a thread would add 0.05 ms
FIRST_BYTES = 2**16  # reserved besides what has arrived
MOST_OF_FREE = 4  # bytes of one client over the bytes that are free
MAX_CONTENT_TYPE_LENGTH = 1024  # characters; parsing 16 KiB takes 15 ms
LOST_BY_CURL = (b"\0", b"\r", b"\n")  # by -d @FILE; every image file has zero bytes


class ImageBody(NamedTuple):
    """The contents of a request body.

    Attributes:
        image: the image file.
        parameters: name and value of each parameter beside it, not checked.
    """

    image: bytes
    parameters: Sequence[tuple[str, str]] = ()


async def read_image(
    headers: Mapping[str, str],
    receive: Receive,
    *,
    max_bytes: int,
    reserve: Callable[[int], None],
    pool: Executor,
) -> ImageBody:
    """Read a body in any accepted form.

    Args:
        headers: of the request, by lower-case name.
        receive: ASGI's function that returns the next part of the body.
        max_bytes: limit of the body as sent.
        reserve: called with the bytes to keep for the body, more with each part that arrives:
            what has arrived and as much again, but not more than the Content-Length; in the end its
            size. It may raise to refuse the body.
        pool: threads that parse large multipart and JSON bodies.

    Raises:
        UnsupportedImageFormat: the body has a Content-Encoding.
        PayloadTooLarge: the Content-Length or the received bytes exceed `max_bytes`.
        EmptyBody: the body or the image has no bytes.
        MalformedRequest: the multipart body, JSON or base64 is broken or has no image, or a raw
            body is JSON or what curl's -d makes of a file.
        ClientGone: the client disconnected before the end of the body.
    """
    _refuse_encoded(headers)
    body = await _read(headers, receive, max_bytes, reserve)
    if not body:
        raise EmptyBody("the request has no body; send an image")
    declared = headers.get("content-type", "")
    if len(declared) > MAX_CONTENT_TYPE_LENGTH:
        raise MalformedRequest("the Content-Type is too long")
    content_type = declared.partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        options = parse_options_header(declared)[1]
        contents = await _parse(partial(_from_form, options=options), body, pool)
    elif is_json(content_type):
        contents = await _parse(_from_json, body, pool)
    else:
        _refuse_no_image(content_type, body)
        contents = ImageBody(body)  # any other type, even a wrong one: the decoder detects it
    if not contents.image:
        raise EmptyBody("the image has no bytes")
    return contents


def _refuse_encoded(headers: Mapping[str, str]) -> None:
    if "content-encoding" not in headers:
        return
    coding = headers["content-encoding"].strip().lower()
    if coding not in ("identity", ""):
        raise UnsupportedImageFormat(
            f"the body is encoded with {coding[:40]!r}; send the bytes of the file as they are",
            headers={"Accept-Encoding": "identity"},  # RFC 9110, 15.5.16
        )


async def _read(
    headers: Mapping[str, str], receive: Receive, max_bytes: int, reserve: Callable[[int], None]
) -> bytes:
    declared = headers.get("content-length", "")
    largest = int(declared) if NUMBER.fullmatch(declared) else max_bytes
    if largest > max_bytes:
        raise _too_large(max_bytes)
    reserve(min(largest, FIRST_BYTES))  # if this is too much, the client need not send the body
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the client disconnected during the upload")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        reserve(min(largest, 2 * size + FIRST_BYTES) if more else size)
        if chunk:
            parts.append(chunk)
    return b"".join(parts)  # a single part is not copied


def _too_large(max_bytes: int) -> PayloadTooLarge:
    limits = {"max_body_bytes": max_bytes}
    return PayloadTooLarge(f"the body is larger than {max_bytes} bytes", limits=limits)


async def _parse(parse: Callable[[bytes], ImageBody], body: bytes, pool: Executor) -> ImageBody:
    if len(body) <= MAX_BYTES_PARSED_ON_LOOP:
        return parse(body)
    return await asyncio.get_running_loop().run_in_executor(pool, parse, body)


def _from_form(body: bytes, options: Mapping[bytes, bytes]) -> ImageBody:
    return ImageBody(*read_form(body, options))


def _from_json(body: bytes) -> ImageBody:
    return ImageBody(*read_json(body))


def _refuse_no_image(media_type: str, body: bytes) -> None:
    """Refuse a raw body that is a usual mistake; the decoder would not know which one."""
    if body[:1] == b"{":
        raise MalformedRequest("the body looks like JSON; send Content-Type: application/json")
    # curl also declares this type with --data-binary, which changes no byte
    if media_type == "application/x-www-form-urlencoded" and not any(
        byte in body for byte in LOST_BY_CURL
    ):
        raise MalformedRequest(
            "the body is not an image file: curl's -d sends text, and removes line ends and zero "
            "bytes from files; use --data-binary @FILE, or -F file=@FILE"
        )


class BytesInFlight:
    """The body bytes of all requests that are in memory, and their limit.

    A request that would exceed the limit is refused; none waits.

    Args:
        size: the limit, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0
        self.by_client: Counter[Hashable] = Counter()

    def reserve(self, client: Hashable = None) -> "Reservation":
        """An empty reservation for one request of a client; None if clients do not share."""
        return Reservation(self, client)

    def fits(self, reservation: "Reservation", more: int) -> bool:
        """Whether a reservation may grow by so many bytes.

        With several requests, a client may hold at most four times as much as is free, so that
        others always find room: a dynamic threshold (Choudhury and Hahne, 1998).
        """
        free = self.size - self.held - more
        of_client = self.by_client[reservation.client]
        single = reservation.client is None or of_client == reservation.held
        return free >= 0 and (single or of_client + more <= MOST_OF_FREE * free)


class Reservation:
    """The bytes of one request; the end of the `with` block releases them."""

    def __init__(self, total: BytesInFlight, client: Hashable) -> None:
        self.held = 0
        self.client = client
        self._total = total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._change(-self.held)

    def resize(self, size: int) -> None:
        """Reserve this many bytes in total, more or fewer than before.

        Raises:
            Overloaded: all requests together, or all of this client, would exceed the limit.
        """
        more = size - self.held
        total = self._total
        if more > 0 and not total.fits(self, more):
            raise Overloaded(
                "too many bytes are being uploaded at once",
                retry_after_s=RETRY_AFTER_S * random.uniform(1, 1.5),  # noqa: S311  # spreads retries
                limits={"max_body_bytes_in_flight": total.size},
            )
        self._change(more)

    def _change(self, more: int) -> None:
        total, client = self._total, self.client
        self.held += more
        total.held += more
        total.by_client[client] += more
        if not total.by_client[client]:
            del total.by_client[client]
