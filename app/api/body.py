"""Owns the way from a request body to image bytes: raw, multipart or JSON, within a byte limit.

Knows nothing of what the bytes show, nor of the web framework: it gets headers and messages.
"""

import asyncio
import base64
import random
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError
from python_multipart.multipart import parse_options_header

from app.api.multipart import file_part
from app.api.schemas import ImageRequest
from app.core.errors import (
    ClientGone,
    EmptyBody,
    MalformedRequest,
    Overloaded,
    PayloadTooLarge,
    UnsupportedImageFormat,
)

NUMBER = re.compile(r"[0-9]{1,19}")
PARSED_ON_THE_LOOP = 2**20  # bytes; up to there it takes less than 0.5 ms, a thread 0.05 ms more
LONGEST_CONTENT_TYPE = 1024  # of 16 KiB its parser makes 15 ms
JSON_MARKS = (b",", b":", b"[", b"{")  # there are about as many values; base64 has none of them
MOST_JSON_MARKS = 4096  # of each; as values they take 12 times the memory of the body
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
BASE64 = TypeAdapter(bytes, config=ConfigDict(val_json_bytes="base64"))


async def read_image(
    headers: Mapping[str, str],
    receive: Receive,
    *,
    max_bytes: int,
    hold: Callable[[int], None],
    pool: Executor,
) -> bytes:
    """Read a body of any accepted form and return the bytes of its image.

    Args:
        headers: of the request, by lower-case name.
        receive: the body as it arrives, by ASGI's messages.
        max_bytes: of the body as sent; nothing beyond is kept.
        hold: told how many bytes the body has, by Content-Length or so far; it may refuse them.
        pool: where large multipart and JSON bodies are parsed.

    Raises:
        UnsupportedImageFormat: the body is compressed as a whole.
        PayloadTooLarge: by Content-Length, or by the bytes that came.
        EmptyBody: no bytes at all, or an empty image.
        MalformedRequest: broken multipart, JSON or base64, or no image in it.
        ClientGone: the caller left before the end.
    """
    _refuse_encoded(headers)
    body = await _read(headers, receive, max_bytes, hold)
    if not body:
        raise EmptyBody("the request has no body; send an image")
    declared = headers.get("content-type", "")
    if len(declared) > LONGEST_CONTENT_TYPE:
        raise MalformedRequest("the Content-Type is too long")
    content_type = declared.partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        options = parse_options_header(declared)[1]
        image = await _parse(partial(file_part, options=options), body, pool)
    elif content_type == "application/json":
        image = await _parse(_from_json, body, pool)
    else:
        image = body  # any other type, also a wrong one: the decoder looks at the bytes
    if not image:
        raise EmptyBody("the image has no bytes")
    return image


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
    headers: Mapping[str, str], receive: Receive, max_bytes: int, hold: Callable[[int], None]
) -> bytes:
    declared = headers.get("content-length", "")
    if NUMBER.fullmatch(declared):
        if int(declared) > max_bytes:
            raise _too_large(max_bytes)
        hold(int(declared))
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the caller left while uploading")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        hold(size)
        if chunk:
            parts.append(chunk)
    return b"".join(parts)  # one part is passed on as it is


def _too_large(max_bytes: int) -> PayloadTooLarge:
    limits = {"max_body_bytes": max_bytes}
    return PayloadTooLarge(f"the body is larger than {max_bytes} bytes", limits=limits)


async def _parse(parse: Callable[[bytes], bytes], body: bytes, pool: Executor) -> bytes:
    if len(body) <= PARSED_ON_THE_LOOP:
        return parse(body)
    return await asyncio.get_running_loop().run_in_executor(pool, parse, body)


def _from_json(body: bytes) -> bytes:
    if any(_more_than(MOST_JSON_MARKS, mark, body) for mark in JSON_MARKS):
        raise MalformedRequest("JSON body: too many values beside the image")
    try:
        text = ImageRequest.model_validate_json(body).image
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        told = ": ".join(filter(None, ("JSON body", where, first["msg"])))
        raise MalformedRequest(told) from None
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise MalformedRequest("JSON body: image: the data: URI is not base64")
    try:
        return _from_base64(text)
    except ValueError:  # of pydantic, of base64, and of binascii
        raise MalformedRequest("JSON body: image: not valid base64") from None


def _more_than(count: int, mark: bytes, body: bytes) -> bool:
    """Whether the mark is there more often; to find none is 30 times as quick as to count them."""
    at = -1
    for _ in range(count + 1):
        at = body.find(mark, at + 1)
        if at < 0:
            return False
    return True


def _from_base64(text: str) -> bytes:
    if "-" not in text and "_" not in text and len(text) % 4 == 0:  # it would take what we do not
        with suppress(ValidationError):
            return BASE64.validate_strings(text)  # four times as quick as the standard library
    return base64.b64decode("".join(text.split()), validate=True)  # tools break it into lines


RETRY_AFTER_S = 1.0  # an upload takes about that long; nobody knows better


class BytesInFlight:
    """What all requests together may hold; one that would hold more is refused, and none waits.

    Args:
        size: bytes at most.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.held = 0

    def reserve(self) -> "Reservation":
        """What one request holds: nothing yet."""
        return Reservation(self)


class Reservation:
    """The part of one request, which grows with what is known of its body, and is given back."""

    def __init__(self, quota: BytesInFlight) -> None:
        self.held = 0
        self._quota = quota

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._quota.held -= self.held
        self.held = 0

    def grow(self, size: int) -> None:
        """Hold that many bytes, unless it is as many already.

        Raises:
            Overloaded: all together would hold more than they may.
        """
        more = size - self.held
        if more <= 0:
            return
        quota = self._quota
        if quota.held + more > quota.size:
            raise Overloaded(
                "too many bytes are being uploaded at once",
                retry_after_s=RETRY_AFTER_S * random.uniform(1, 1.5),  # noqa: S311  # no secret
                limits={"max_body_bytes_in_flight": quota.size},
            )
        quota.held += more
        self.held = size
