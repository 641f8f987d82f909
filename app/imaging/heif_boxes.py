"""Reads the container of AVIF and HEIC files: boxes, items, properties and references.

ISO/IEC 14496-12 and 23008-12. Files contain items, for example an image, the tiles of a grid, or
EXIF data. Decoders differ in which box they use if there are two, so a second one is refused.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from app.core.errors import InvalidImage

MAX_BOXES = 200  # in one box, except those that describe items
MAX_ITEMS = 1_000  # as libheif; a photograph of 48 megapixels has 200 tiles
MAX_PROPERTIES = 32  # of an item
MAX_REFERENCES = 4_000
MAX_EXTENTS = 4_000
REPEATED = frozenset({b"free", b"skip", b"uuid", b"mdat"})
Value = TypeVar("Value")
Span = tuple[int, int]  # start and end in bytes


class Items(NamedTuple):
    """The items of a file.

    Attributes:
        kinds: type of each item.
        extents: where the contents of each item are.
        references: type, item that refers, and items that it refers to.
    """

    kinds: dict[int, bytes]
    extents: dict[int, list[Span]]
    references: list[tuple[bytes, int, list[int]]]


class Properties(NamedTuple):
    """The properties of all items.

    Attributes:
        boxes: type and contents of each property, by its number.
        used: numbers of the properties of each item.
    """

    boxes: list[tuple[bytes, Span]]
    used: dict[int, list[int]]

    def of(self, item: int) -> Iterator[tuple[bytes, Span]]:
        """The properties of an item; numbers that do not exist are skipped."""
        for number in self.used.get(item, ()):
            if 0 < number <= len(self.boxes):
                yield self.boxes[number - 1]


def boxes(data: bytes, start: int, end: int, most: int = MAX_BOXES) -> Iterator[tuple[bytes, Span]]:
    """Type and contents of each box in a part of a file.

    Args:
        data: the file.
        start: of the part, in bytes.
        end: of the part.
        most: number of boxes that are accepted.

    Raises:
        InvalidImage: too many boxes, or one that ends before its start.
    """
    for _ in range(most):
        if end - start < 8:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, start + 8), 16
        size = size or end - start
        if size < head:
            raise InvalidImage("the file has a box of an invalid size")
        yield kind, (start + head, min(start + size, end))
        start += size
    if end - start >= 8:
        raise InvalidImage(f"the file has more than {most} boxes in a row")


def only(found: Iterator[tuple[bytes, Span]]) -> dict[bytes, Span]:
    """The boxes by type.

    Raises:
        InvalidImage: there are two of a type, except boxes that may be repeated.
    """
    by_kind: dict[bytes, Span] = {}
    for kind, span in found:
        if kind in by_kind and kind not in REPEATED:
            raise InvalidImage(f"the file has two boxes {kind.decode(errors='replace')!r}")
        by_kind[kind] = span
    return by_kind


def meta_boxes(data: bytes) -> dict[bytes, Span]:
    """The boxes of the box `meta`, which describes the items.

    Raises:
        InvalidImage: there is none, or more than one, or it names no image.
    """
    spans = [span for kind, span in boxes(data, 0, len(data)) if kind == b"meta"]
    if len(spans) == 1:
        start, end = spans[0]
        found = only(boxes(data, start + 4, end))
        if {b"pitm", b"iprp"} <= found.keys():
            return found
    raise InvalidImage("the file has no image item, or several lists of items")


def primary_item(data: bytes, meta: dict[bytes, Span]) -> int:
    """The number of the item that is the image."""
    at = meta[b"pitm"][0]
    return _number(data, at + 4, 4 if data[at] else 2)


def read_properties(data: bytes, meta: dict[bytes, Span]) -> Properties:
    """The properties of all items.

    Raises:
        InvalidImage: too many, or two lists of properties, or an item that is listed twice.
    """
    listed: list[tuple[bytes, Span]] = []
    used: dict[int, list[int]] = {}
    for kind, (start, end) in boxes(data, *meta[b"iprp"]):
        if kind == b"ipco":
            if listed:
                raise InvalidImage("the file has two lists of properties")
            listed += boxes(data, start, end, MAX_ITEMS)
        elif kind == b"ipma":
            _associations(data, start, used)
    return Properties(listed, used)


def _associations(data: bytes, at: int, used: dict[int, list[int]]) -> None:
    width, wide = (4 if data[at] else 2), data[at + 3] & 1
    count, at = _number(data, at + 4, 4), at + 8
    if count > MAX_ITEMS:
        raise InvalidImage(f"the file has more than {MAX_ITEMS} items")
    for _ in range(count):
        item, number = _number(data, at, width), data[at + width]
        if item in used or len(used) >= MAX_ITEMS or number > MAX_PROPERTIES:
            raise InvalidImage("the file lists the properties of an item twice, or too many")
        values = struct.unpack_from(f">{number}{'H' if wide else 'B'}", data, at + width + 1)
        used[item] = [value & (0x7FFF if wide else 0x7F) for value in values]
        at += width + 1 + number * (2 if wide else 1)


def read_items(data: bytes, meta: dict[bytes, Span]) -> Items:
    """The items of a file.

    Raises:
        InvalidImage: there are none, or too many items, extents or references.
    """
    if not {b"iinf", b"iloc"} <= meta.keys():
        raise InvalidImage("the file has no items")
    kinds = _unique(_kinds(data, *meta[b"iinf"]))
    inside = meta.get(b"idat", (0, 0))
    extents = _unique(_extents(data, meta[b"iloc"][0], inside))
    references = list(_references(data, *meta[b"iref"])) if b"iref" in meta else []
    if max(len(kinds), len(extents)) > MAX_ITEMS:
        raise InvalidImage(f"the file has more than {MAX_ITEMS} items")
    return Items(kinds, extents, references)


def _unique(pairs: Iterable[tuple[int, Value]]) -> dict[int, Value]:
    found: dict[int, Value] = {}
    for item, value in pairs:
        if item in found:
            raise InvalidImage("the file lists an item twice")
        found[item] = value
    return found


def _kinds(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for kind, (at, _) in boxes(data, start + (8 if data[start] else 6), end, MAX_ITEMS):
        if kind == b"infe" and data[at] >= 2:
            width = 4 if data[at] > 2 else 2
            yield _number(data, at + 4, width), data[at + 6 + width : at + 10 + width]


def _extents(data: bytes, at: int, inside: Span) -> Iterator[tuple[int, list[Span]]]:
    version, sizes = data[at], data[at + 4 : at + 6]
    offset_size, length_size, base_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_size = sizes[1] & 15 if version else 0
    width = 4 if version > 1 else 2
    count, at, total = _number(data, at + 6, width), at + 6 + width, 0
    for _ in range(min(count, MAX_ITEMS + 1)):
        item, at = _number(data, at, width), at + width
        method, at = (_number(data, at, 2) & 15, at + 2) if version else (0, at)
        base, at = _number(data, at + 2, base_size), at + 2 + base_size
        number, at = _number(data, at, 2), at + 2
        start, end = (0, len(data)) if method == 0 else inside
        total += number
        if method > 1 or total > MAX_EXTENTS:
            raise InvalidImage(f"the file has more than {MAX_EXTENTS} extents, or an unusual one")
        spans = []
        for _ in range(number):
            at += index_size
            first = start + base + _number(data, at, offset_size)
            size = _number(data, at + offset_size, length_size) or end
            at += offset_size + length_size
            spans.append((min(first, end), min(first + size, end)))
        yield item, spans


def _references(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, list[int]]]:
    width, total = 4 if data[start] else 2, 0
    for kind, (at, _) in boxes(data, start + 4, end, MAX_ITEMS):
        count, first = _number(data, at + width, 2), at + width + 2
        total += count
        if total > MAX_REFERENCES:
            raise InvalidImage(f"the file has more than {MAX_REFERENCES} references")
        yield (
            kind,
            _number(data, at, width),
            [_number(data, first + width * index, width) for index in range(count)],
        )


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise InvalidImage("the file is truncated")
    return int.from_bytes(data[at : at + size])
