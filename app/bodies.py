"""Owns the way from a request body to image bytes: raw, multipart or JSON, within a byte limit.

Knows nothing of what the bytes show, nor of the web framework: it gets headers and chunks.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ConfigDict, TypeAdapter, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import EmptyBody, MalformedRequest, PayloadTooLarge
from app.schemas import ImageRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

NUMBER = re.compile(r"[0-9]{1,19}")
PARSED_ON_THE_LOOP = 2**20  # bytes; up to there it takes less than 0.5 ms, a thread 0.05 ms more
BASE64 = TypeAdapter(bytes, config=ConfigDict(val_json_bytes="base64"))


async def read_image(
    headers: Mapping[str, str],
    chunks: AsyncIterator[bytes],
    *,
    max_bytes: int,
    pool: Executor,
) -> bytes:
    """Read a body of any accepted form and return the bytes of its image.

    Args:
        headers: of the request, by lower-case name.
        chunks: the body as it arrives.
        max_bytes: of the body as sent; nothing beyond is kept.
        pool: where large multipart and JSON bodies are parsed.

    Raises:
        PayloadTooLarge: by Content-Length, or by the bytes that came.
        EmptyBody: no bytes at all, or an empty image.
        MalformedRequest: broken multipart, JSON or base64, or no image in it.
    """
    body = await _read(headers, chunks, max_bytes)
    if not body:
        raise EmptyBody("the request has no body; send an image")
    content_type, options = parse_options_header(headers.get("content-type", ""))
    if content_type == b"multipart/form-data":
        image = await _parse(partial(_from_multipart, options=options), body, pool)
    elif content_type == b"application/json":
        image = await _parse(_from_json, body, pool)
    else:
        image = body  # any other type, also a wrong one: the decoder looks at the bytes
    if not image:
        raise EmptyBody("the image has no bytes")
    return image


async def _read(headers: Mapping[str, str], chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    declared = headers.get("content-length", "")
    if NUMBER.fullmatch(declared) and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
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


def _from_base64(text: str) -> bytes:
    if "-" not in text and "_" not in text and len(text) % 4 == 0:  # it would take what we do not
        with suppress(ValidationError):
            return BASE64.validate_strings(text)  # four times as quick as the standard library
    return base64.b64decode("".join(text.split()), validate=True)  # tools break it into lines


class _FilePart:
    """Collects the part called `file` while the multipart parser calls back."""

    def __init__(self) -> None:
        self.parts: list[list[bytes]] = []
        self.ended = False
        self._wanted = False
        self._header = self._value = b""

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser shall call."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._more,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._wanted = False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._wanted = options.get(b"name") == b"file"
        self._header = self._value = b""

    def _headers_end(self) -> None:
        if self._wanted:
            self.parts.append([])

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self.parts[-1].append(data[start:end])

    def _end(self) -> None:
        self.ended = True


def _from_multipart(body: bytes, options: Mapping[bytes, bytes]) -> bytes:
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequest("multipart body: the Content-Type names no boundary")
    part = _FilePart()
    try:
        parser = MultipartParser(boundary, part.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequest(f"multipart body: {error}") from None
    if not part.ended:
        raise MalformedRequest("multipart body: it ends before its closing boundary")
    if len(part.parts) != 1:
        raise MalformedRequest(f"multipart body: {len(part.parts)} parts named file, 1 expected")
    return b"".join(part.parts[0])
