"""The structure of a TIFF and of EXIF data: reads tags, and limits tags, strips and tiles.

Pillow parses tags in Python, and a small file can list very many strips or tiles.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from app.core.errors import InvalidImage, UnsupportedImageFormat
from app.imaging.jpeg_structure import EXIF_MARK, SOI, jpeg_frame, jpeg_segments

MAX_TAGS = 1_024  # of a TIFF's directory, and of all directories of EXIF data; cameras write dozens
MAX_STRIPS = 131_072  # or tiles; encoders write at most one strip for a row
BIG_ENDIAN_BIGTIFF = b"MM\0+"
MAX_OVERLAP = 2  # bytes of all strips or tiles, for each byte of the file
WIDTH, LENGTH, BITS, COMPRESSION, SAMPLES = 256, 257, 258, 259, 277  # tags
TILE_WIDTH, TILE_LENGTH = 322, 323
OFFSETS, SIZES = (273, 324), (279, 325)  # of strips and of tiles, in bytes
PIXEL_TAGS = frozenset({
    WIDTH, LENGTH, BITS, COMPRESSION, 262, SAMPLES, 278, 284, 317, TILE_WIDTH, TILE_LENGTH,
    *OFFSETS, *SIZES,
})  # fmt: skip
UNCOMPRESSED, JPEG_COMPRESSIONS = 1, (6, 7)  # values of COMPRESSION
DIRECTORIES = frozenset({0x8769, 0x8825, 0xA005})  # EXIF, GPS, Interoperability: tags of offsets
NUMBERS = {  # types of whole numbers: struct's character; libtiff reads all, Pillow all but 17, 18
    1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
PIXEL_TYPES = frozenset({1, 3, 4, 16})  # of tags that describe pixels: BYTE, SHORT, LONG, LONG8


class TiffTag(NamedTuple):
    """A tag of a TIFF.

    Attributes:
        kind: type of a value.
        number: byte order and type of a value, as in the formats of `struct`; a byte if the values
            are no whole numbers.
        length: number of values.
        at: offset of the first value in bytes.
        value: the first value; 0 if it is beyond the end of the file.
    """

    kind: int
    number: str
    length: int
    at: int
    value: int


def tiff_tags(data: bytes) -> dict[int, TiffTag]:
    """The tags of a TIFF's first directory that describe its pixels; empty if it is truncated.

    A tag is refused if its type is unusual. Decoders accept more types than the specification, for
    example a compression that is a fraction or a text, but not the same ones.

    Raises:
        InvalidImage: too many tags, a tag twice, or a tag of an unusual type.
    """
    tags = dict[int, TiffTag]()
    for tag, found in _directory(data, PIXEL_TAGS, "TIFF")[1]:
        if tag in tags:  # decoders differ in which one they use
            raise InvalidImage(f"the TIFF has tag {tag} twice")
        if found.kind not in PIXEL_TYPES:
            raise InvalidImage(f"the TIFF has tag {tag} of an unusual type")
        tags[tag] = found
    return tags


def check_exif(block: bytes) -> None:
    """Refuse EXIF data with too many tags in its directories: Pillow parses them in Python.

    Args:
        block: the EXIF data, or a TIFF, which may have directories of EXIF data.

    Raises:
        InvalidImage: too many tags.
    """
    if not block:
        return
    block = block.removeprefix(EXIF_MARK).removeprefix(EXIF_MARK)  # as Pillow does
    count, starts = 0, list[int | None]([None])
    while starts:
        length, pointers = _directory(block, DIRECTORIES, "EXIF data", starts.pop())
        count += length
        starts += [tag.value for _, tag in pointers if tag.kind in NUMBERS and tag.value >= 0]
        if count > MAX_TAGS:
            raise InvalidImage(f"the EXIF data has more than {MAX_TAGS} tags")


def _directory(
    data: bytes, wanted: frozenset[int], what: str, at: int | None = None
) -> tuple[int, list[tuple[int, TiffTag]]]:
    """The number of tags in a TIFF's directory, and the wanted ones.

    Args:
        data: the file.
        wanted: tags.
        what: a name of the file for the error.
        at: offset of the directory in bytes; the first directory if it is None.
    """
    order, big = ("<" if data[:2] == b"II" else ">"), data[2:3] == b"+"  # as Pillow reads it
    size, width = (20, 8) if big else (12, 4)  # of an entry, and of its value
    try:
        if at is None:
            (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, width)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    except (struct.error, OverflowError):
        return 0, []
    if count > MAX_TAGS:
        raise InvalidImage(f"the {what} has more than {MAX_TAGS} tags")
    start, found = at + (8 if big else 2), []
    whole = data[start : start + min(count, max(0, len(data) - start) // size) * size]
    entries = struct.iter_unpack(order + ("HHQQ" if big else "HHII"), whole)
    for index, (tag, kind, length, place) in enumerate(entries):
        if tag in wanted:
            number = order + NUMBERS.get(kind, "B")
            inline = length * struct.calcsize(number) <= width
            first = start + (index + 1) * size - width if inline else place
            value = _number(number, data, first)
            found.append((tag, TiffTag(kind, number, length, first, value)))
    return count, found


def _number(number: str, data: bytes, at: int) -> int:
    """The number at an offset; 0 if it is beyond the end of the file."""
    try:
        value: int = struct.unpack_from(number, data, at)[0]
    except (struct.error, OverflowError):
        return 0
    return value


def check_tiff(data: bytes) -> None:
    """Refuse a TIFF whose structure would take longer to decode than its pixels.

    Raises:
        InvalidImage: too many tags, strips or tiles; a tag twice or of an unusual type; strips or
            tiles that share their bytes, or that are JPEGs of several scans.
        UnsupportedImageFormat: a big-endian BigTIFF.
    """
    if data.startswith(BIG_ENDIAN_BIGTIFF):  # Pillow reads the header as that of a small TIFF
        raise UnsupportedImageFormat("big-endian BigTIFFs are not accepted")
    tags = tiff_tags(data)
    check_exif(data)
    listed = [tags[tag] for tag in OFFSETS if tag in tags]
    if any(tag.length > MAX_STRIPS for tag in listed):
        raise InvalidImage(f"the TIFF has more than {MAX_STRIPS} strips or tiles")
    compression = tags[COMPRESSION].value if COMPRESSION in tags else UNCOMPRESSED
    if compression in JPEG_COMPRESSIONS:
        _refuse_scans_in_strips(data, listed)
    if compression != UNCOMPRESSED:
        _refuse_overlap(data, tags)


def _refuse_scans_in_strips(data: bytes, offsets: list[TiffTag]) -> None:
    for start in {start for tag in offsets for start in _values(tag, data)}:
        is_jpeg = data[start : start + len(SOI)] == SOI  # not so in an old one: only its scan
        frame = jpeg_frame(data, jpeg_segments(data, start)) if is_jpeg else None
        if frame and frame.several_scans:
            raise InvalidImage("the TIFF has a strip or tile that is a JPEG of several scans")


def _refuse_overlap(data: bytes, tags: dict[int, TiffTag]) -> None:
    """Refuse a TIFF that decompresses the same bytes for many strips or tiles."""
    total = 0
    for offsets, sizes in zip(OFFSETS, SIZES, strict=True):
        if offsets in tags and sizes in tags:
            pieces = zip(_values(tags[offsets], data), _values(tags[sizes], data), strict=False)
            total += sum(min(size, max(0, len(data) - start)) for start, size in pieces)
    if total > MAX_OVERLAP * len(data):
        raise InvalidImage(
            f"the strips or tiles of the TIFF have more than {MAX_OVERLAP} times its bytes"
        )


def _values(tag: TiffTag, data: bytes) -> Iterator[int]:
    """The values of a TIFF's tag that are not beyond the end of the file."""
    size = struct.calcsize(tag.number)
    whole = data[tag.at : tag.at + tag.length * size]
    for (value,) in struct.iter_unpack(tag.number, whole[: len(whole) // size * size]):
        yield value
