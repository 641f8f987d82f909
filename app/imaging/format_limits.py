"""Limits on the structure of image files: segments, scans, chunks, blocks, tags, strips.

A decoder spends time on each piece, and each scan of a JPEG costs as much as decoding the whole
image, so a small file with many pieces can take very long.
"""

import re
import struct
from collections.abc import Callable

from app.core.errors import InvalidImage, UnsupportedImageFormat

MAX_SEGMENTS = 10_000  # of a JPEG before its first scan; cameras write some dozens
MAX_CHUNKS = 65_536  # of a PNG; encoders write pixels in chunks of 8 KiB or more
MAX_BLOCKS = 65_536  # of a GIF before its first frame; a comment has one for each 255 bytes
MAX_TAGS = 65_536  # of a TIFF's directory; only a BigTIFF can declare more
MAX_SCANS = 100  # of a JPEG; encoders write ten if it is progressive
MAX_STRIPS = 262_144  # or tiles of a TIFF; encoders write at most one strip for a row
SOI_BYTES, SIGNATURE_BYTES, SCREEN_BYTES = 2, 8, 13  # where JPEG, PNG and GIF structure begins
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9  # JPEG markers
NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers of frame headers
SEQUENTIAL, ARITHMETIC = (0xC0, 0xC1), range(0xC9, 0xD0)
MARKER = re.compile(
    rb"\xff([\x01-\xcf\xd8-\xfe])"
)  # not restarts or escaped bytes, which scans contain
EXTENSION, FRAME = 0x21, 0x2C  # first bytes of GIF blocks
OFFSETS = (273, 324)  # TIFF tags with the offsets of strips and of tiles


def check_structure(kind: str, data: bytes) -> None:
    """Refuse a file if its structure would take longer to decode than its pixels.

    Args:
        kind: Pillow's name of its format.
        data: the file; a truncated one is left to the decoder to refuse.

    Raises:
        InvalidImage: too many segments, scans, chunks, color profiles, blocks, tags or strips.
        UnsupportedImageFormat: a JPEG in arithmetic coding.
    """
    check = CHECKS.get(kind)
    if check is not None:
        check(data)


def _jpeg(data: bytes) -> None:
    at, components, progressive = SOI_BYTES, 0, False
    for _ in range(MAX_SEGMENTS):
        head = data[at : at + 10]
        if len(head) < 10:
            return
        marker = head[1]
        if head[0] != 0xFF or marker in (0x00, 0xFF):  # not a marker, or a fill byte before one
            at += 1
        elif marker in NO_LENGTH:
            at += 2
        elif marker in (START_OF_SCAN, END_OF_IMAGE):
            if progressive or head[4] < components:
                _refuse_scans(data, at)
            return
        else:
            if marker in FRAMES:
                components, progressive = head[9], marker not in SEQUENTIAL
                _refuse_arithmetic(marker)
            at += 2 + max(2, int.from_bytes(head[2:4]))
    raise InvalidImage(f"the JPEG has more than {MAX_SEGMENTS} segments")


def _refuse_arithmetic(marker: int) -> None:
    if marker in ARITHMETIC:  # its decoder computes for a long time even on an empty scan
        raise UnsupportedImageFormat("JPEGs in arithmetic coding are not accepted")


def _refuse_scans(data: bytes, at: int) -> None:
    """Refuse a JPEG with too many scans between `at` and the end of the image."""
    if (
        data.count(b"\xff\xda", at) <= MAX_SCANS
    ):  # an upper bound: it includes bytes after the image
        return
    scans = 0
    while (found := MARKER.search(data, at)) and found[1][0] != END_OF_IMAGE:
        marker, at = found[1][0], found.end()
        scans += marker == START_OF_SCAN
        if scans > MAX_SCANS:
            raise InvalidImage(f"the JPEG has more than {MAX_SCANS} scans")
        if marker not in NO_LENGTH:
            at += max(2, int.from_bytes(data[at : at + 2]))


def _png(data: bytes) -> None:
    at, profiles = SIGNATURE_BYTES, 0
    for _ in range(MAX_CHUNKS):
        name = data[at + 4 : at + 8]
        if len(name) < 4 or name == b"IEND":
            return
        profiles += name == b"iCCP"
        if profiles > 1:  # each may decompress to a million bytes
            raise InvalidImage("the PNG has more than one color profile")
        at += 12 + int.from_bytes(data[at : at + 4])
    raise InvalidImage(f"the PNG has more than {MAX_CHUNKS} chunks")


def _gif(data: bytes) -> None:
    flags = data[SCREEN_BYTES - 3] if len(data) >= SCREEN_BYTES else 0
    at = SCREEN_BYTES + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension = False
    for _ in range(MAX_BLOCKS):
        if at >= len(data):
            return
        size = data[at]
        if in_extension:
            at, in_extension = at + 1 + size, size > 0
        elif size == FRAME:
            return
        elif size == EXTENSION:
            at, in_extension = at + 2, True
        else:
            at += 1
    raise InvalidImage(f"the GIF has more than {MAX_BLOCKS} blocks before its first frame")


def _tiff(data: bytes) -> None:
    order, big = ("<" if data[:2] == b"II" else ">"), 43 in data[2:4]
    entry = struct.Struct(order + ("HHQ8x" if big else "HHI4x"))
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    except (struct.error, OverflowError):
        return
    if count > MAX_TAGS:
        raise InvalidImage(f"the TIFF has more than {MAX_TAGS} tags")
    start = at + (8 if big else 2)
    listed = data[start : start + count * entry.size]
    for tag, _, values in entry.iter_unpack(listed[: len(listed) // entry.size * entry.size]):
        if tag in OFFSETS and values > MAX_STRIPS:
            raise InvalidImage(f"the TIFF has more than {MAX_STRIPS} strips or tiles")


CHECKS: dict[str, Callable[[bytes], None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "TIFF": _tiff,
}
