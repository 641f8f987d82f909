"""Reads a multipart/form-data body: the part named `file`, and the parameters beside it."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.errors import MalformedRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_BOUNDARY_BYTES = 70  # RFC 2046, 5.1.1
MAX_PARTS = 32  # each takes 8 microseconds, so 20 MB of empty parts would take seconds
MAX_PART_HEADER_BYTES = 2048  # file names are shorter
MAX_FIELD_BYTES = 256  # that are kept of a parameter; values are shorter
Fields = Sequence[tuple[str, str]]  # name and value

TEXT = re.compile(rb"[ -~]{1,1000}")  # printable; an image file has other bytes
UNENCODED = frozenset({b"", b"7bit", b"8bit", b"binary"})


def read_form(body: bytes, options: Mapping[bytes, bytes]) -> tuple[bytes, Fields]:
    """The content of the part named `file`, and the name and value of every other part.

    Args:
        body: the complete body.
        options: parameters of the Content-Type header, with the boundary.

    Raises:
        MalformedRequest: the body is broken, has not exactly one such part, or too many parts.
    """
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequest("multipart body: the Content-Type has no boundary")
    if len(boundary) > MAX_BOUNDARY_BYTES:
        raise MalformedRequest(
            f"multipart body: the boundary is longer than {MAX_BOUNDARY_BYTES} bytes"
        )
    if body.count(b"\r\n--" + boundary) > MAX_PARTS:
        raise MalformedRequest(f"multipart body: more than {MAX_PARTS} parts")
    collected = _Parts()
    try:
        parser = MultipartParser(
            boundary, collected.callbacks(), max_header_size=MAX_PART_HEADER_BYTES
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequest(f"multipart body: {error}") from None
    if not collected.ended:
        raise MalformedRequest("multipart body: the closing boundary is missing")
    if len(collected.files) != 1:
        raise MalformedRequest(f"multipart body: {_wrong_parts(collected)}")
    fields = [(_text(name), _text(b"".join(value))) for name, value in collected.fields]
    image = b"".join(collected.files[0])
    if "file" not in collected.with_filename and TEXT.fullmatch(image):
        raise MalformedRequest(
            "multipart body: the part named file is text, not a file; with curl, write file=@FILE"
        )
    return image, fields


def _wrong_parts(collected: "_Parts") -> str:
    """What to do about a form without exactly one part named `file`."""
    count, names = len(collected.files), [_text(name) for name, _ in collected.fields]
    if not count and len(collected.with_filename) == 1:
        name = collected.with_filename[0]
        return f"the image is in the part named {name[:40]!r}; name it file"
    shown = ", ".join(repr(name[:40]) for name in names[:3])
    others = f", and the parts are named {shown}" if names and not count else ""
    return f"send the image as one part named file; there are {count}{others}"


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


class _Parts:
    """The parts of a form, collected by callbacks of the multipart parser."""

    def __init__(self) -> None:
        self.files: list[list[bytes]] = []
        self.fields: list[tuple[bytes, list[bytes]]] = []
        self.with_filename: list[str] = []  # names of the parts that are files
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._content: list[bytes] = []  # of the current part
        self._room = MAX_FIELD_BYTES  # for more of it

    def callbacks(self) -> "MultipartCallbacks":
        """The callbacks for the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers = {}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"")
        if b"filename" in options:
            self.with_filename.append(_text(name))
        self._content, self._room = [], MAX_FIELD_BYTES
        if name == b"file":
            self._refuse_encoded()
            self.files.append(self._content)
            self._room = sys.maxsize
        else:
            self.fields.append((name, self._content))

    def _refuse_encoded(self) -> None:
        content_type = self._headers.get(b"content-type", b"").strip().lower()
        if content_type.startswith(b"multipart/"):
            raise MalformedRequest("multipart body: the part named file is itself multipart")
        coding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if coding not in UNENCODED:  # RFC 7578, 4.7
            raise MalformedRequest("multipart body: the part named file is encoded; send its bytes")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._room > 0:
            self._content.append(data[start : min(end, start + self._room)])
            self._room -= end - start

    def _end(self) -> None:
        self.ended = True
