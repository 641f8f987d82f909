"""Owns how the file is found in a multipart/form-data body.

Knows nothing of what the file is, nor how the body was sent.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.core.errors import MalformedRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

LONGEST_BOUNDARY = 70  # RFC 2046, 5.1.1
MOST_PARTS = 32  # the parser takes 8 microseconds for one: 20 MB of nothing else would be seconds
LONGEST_HEADER = 2048  # bytes; names of files are shorter
AS_IT_IS = frozenset({b"", b"7bit", b"8bit", b"binary"})


def file_part(body: bytes, options: Mapping[bytes, bytes]) -> bytes:
    """The content of the part called `file`.

    Args:
        body: whole.
        options: of the Content-Type; the boundary is one of them.

    Raises:
        MalformedRequest: the body is broken, has no such part or several, or too many of any kind.
    """
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequest("multipart body: the Content-Type names no boundary")
    if len(boundary) > LONGEST_BOUNDARY:
        raise MalformedRequest(f"multipart body: a boundary has at most {LONGEST_BOUNDARY} bytes")
    if body.count(b"\r\n--" + boundary) > MOST_PARTS:
        raise MalformedRequest(f"multipart body: more than {MOST_PARTS} parts")
    collected = _Parts()
    try:
        parser = MultipartParser(boundary, collected.callbacks(), max_header_size=LONGEST_HEADER)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequest(f"multipart body: {error}") from None
    if not collected.ended:
        raise MalformedRequest("multipart body: it ends before its closing boundary")
    if len(collected.files) != 1:
        count = len(collected.files)
        raise MalformedRequest(f"multipart body: {count} parts named file, 1 expected")
    return b"".join(collected.files[0])


class _Parts:
    """Collects the parts called `file` while the multipart parser calls back."""

    def __init__(self) -> None:
        self.files: list[list[bytes]] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._wanted = False

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
        self._headers = {}

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._wanted = options.get(b"name") == b"file"
        if self._wanted:
            self._refuse_wrapped()
            self.files.append([])

    def _refuse_wrapped(self) -> None:
        content_type = self._headers.get(b"content-type", b"").strip().lower()
        if content_type.startswith(b"multipart/"):
            raise MalformedRequest("multipart body: the part named file is itself multipart")
        coding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if coding not in AS_IT_IS:  # RFC 7578, 4.7
            raise MalformedRequest("multipart body: the part named file is encoded; send its bytes")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self.files[-1].append(data[start:end])

    def _end(self) -> None:
        self.ended = True
