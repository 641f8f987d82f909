"""Owns how much structure an image file may have beside its pixels: segments, scans, chunks.

Knows nothing of pixels, nor of what decodes them. Each piece costs the decoder a step, and each
scan a walk over the whole image; a small file may have as many as fit into it.
"""

import re
import struct
from collections.abc import Callable

from app.core.errors import InvalidImage, UnsupportedImageFormat

MOST_SEGMENTS = 10_000  # of a JPEG before its first scan; a camera writes some dozens
MOST_CHUNKS = 65_536  # of a PNG; an encoder writes pixels in chunks of 8 KiB or more
MOST_BLOCKS = 65_536  # of a GIF before its first frame; a comment has one for 255 bytes
MOST_TAGS = 65_536  # of a TIFF's directory; only 64-bit ones can count further
MOST_SCANS = 100  # an encoder writes ten for a progressive JPEG
MOST_STRIPS = 262_144  # of a TIFF; at most one a row
SOI_BYTES, SIGNATURE_BYTES, SCREEN_BYTES = 2, 8, 13
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers that no length follows
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SEQUENTIAL, ARITHMETIC = (0xC0, 0xC1), range(0xC9, 0xD0)
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # restarts and escaped bytes are of a scan
EXTENSION, FRAME = 0x21, 0x2C
OFFSETS = (273, 324)  # the tags that list a TIFF's strips and tiles


def refuse_excess(kind: str, data: bytes) -> None:
    """Refuse a file whose structure would cost more than its pixels.

    Args:
        kind: Pillow's name of its format.
        data: the file; where it ends too early, the decoder will say so.

    Raises:
        InvalidImage: too many segments, scans, chunks, blocks or strips.
        UnsupportedImageFormat: a JPEG in arithmetic coding.
    """
    check = CHECKS.get(kind)
    if check is not None:
        check(data)


def _jpeg(data: bytes) -> None:
    at, components, progressive = SOI_BYTES, 0, False
    for _ in range(MOST_SEGMENTS):
        head = data[at : at + 10]
        if len(head) < 10:
            return
        marker = head[1]
        if head[0] != 0xFF or marker in (0x00, 0xFF):  # no marker, or a byte before one
            at += 1
        elif marker in BARE:
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
    raise InvalidImage(f"the JPEG has more than {MOST_SEGMENTS} segments")


def _refuse_arithmetic(marker: int) -> None:
    if marker in ARITHMETIC:  # a scan of no bytes keeps its decoder busy, as Huffman's it does not
        raise UnsupportedImageFormat("a JPEG in arithmetic coding is not taken")


def _refuse_scans(data: bytes, at: int) -> None:
    """Count the scans that begin between there and the end of the image."""
    if data.count(b"\xff\xda", at) <= MOST_SCANS:  # those of a film behind it, too
        return
    scans = 0
    while (found := MARKER.search(data, at)) and found[1][0] != END_OF_IMAGE:
        marker, at = found[1][0], found.end()
        scans += marker == START_OF_SCAN
        if scans > MOST_SCANS:
            raise InvalidImage(f"the JPEG has more than {MOST_SCANS} scans")
        if marker not in BARE:
            at += max(2, int.from_bytes(data[at : at + 2]))


def _png(data: bytes) -> None:
    at, profiles = SIGNATURE_BYTES, 0
    for _ in range(MOST_CHUNKS):
        name = data[at + 4 : at + 8]
        if len(name) < 4 or name == b"IEND":
            return
        profiles += name == b"iCCP"
        if profiles > 1:  # each may be a million bytes when unpacked
            raise InvalidImage("the PNG has more than one colour profile")
        at += 12 + int.from_bytes(data[at : at + 4])
    raise InvalidImage(f"the PNG has more than {MOST_CHUNKS} chunks")


def _gif(data: bytes) -> None:
    flags = data[SCREEN_BYTES - 3] if len(data) >= SCREEN_BYTES else 0
    at = SCREEN_BYTES + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension = False
    for _ in range(MOST_BLOCKS):
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
    raise InvalidImage(f"the GIF has more than {MOST_BLOCKS} blocks before its first frame")


def _tiff(data: bytes) -> None:
    order, big = ("<" if data[:2] == b"II" else ">"), 43 in data[2:4]
    entry = struct.Struct(order + ("HHQ8x" if big else "HHI4x"))
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    except (struct.error, OverflowError):
        return
    if count > MOST_TAGS:
        raise InvalidImage(f"the TIFF has more than {MOST_TAGS} tags")
    start = at + (8 if big else 2)
    listed = data[start : start + count * entry.size]
    for tag, _, values in entry.iter_unpack(listed[: len(listed) // entry.size * entry.size]):
        if tag in OFFSETS and values > MOST_STRIPS:
            raise InvalidImage(f"the TIFF has more than {MOST_STRIPS} strips or tiles")


CHECKS: dict[str, Callable[[bytes], None]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "GIF": _gif,
    "TIFF": _tiff,
}
