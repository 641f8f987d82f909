"""The structure of a JPEG: reads its segments and its frame, and limits its scans.

Each scan costs as much as decoding the whole image, so a small file can take very long.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from app.core.errors import InvalidImage, UnsupportedImageFormat

MAX_SEGMENTS = 1_000  # before the first scan; cameras write some dozens
MAX_SCANS = 100  # encoders write ten if the JPEG is progressive
SCANS_OF_LARGEST = 20  # of a JPEG of the largest size: a scan costs 0.8 ns for each pixel
SOI = b"\xff\xd8"  # the start of a JPEG
SCAN = b"\xff\xda"  # the start of a scan
START_OF_SCAN, END_OF_IMAGE, EXIF, RESOURCES = 0xDA, 0xD9, 0xE1, 0xED  # markers
NO_LENGTH = frozenset({0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})  # markers: as in Pillow
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of frame headers
FRAME_HEADER = struct.Struct(">HHB")  # height, width, components
SEQUENTIAL, ARITHMETIC = (0xC0, 0xC1, 0xC3), range(0xC9, 0xD0)
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # no restarts or escaped bytes: scans have them
EXIF_MARK = b"Exif\0\0"

Segment = tuple[int, int]  # its marker, and its offset in bytes


class JpegFrame(NamedTuple):
    """What a JPEG's segments say before its first scan.

    Attributes:
        marker: the second byte of the frame header's marker, which says the coding.
        width: in pixels.
        height: in pixels.
        components: number of color components.
        samples: samples of all components for each pixel: 3 at 4:4:4, 1.5 at 4:2:0.
        several_scans: whether the image may have more scans than one.
        scan: offset of the first scan in bytes; the end of the file if it has none.
        resources: bytes of Photoshop's resources, which Pillow parses in Python.
    """

    marker: int
    width: int
    height: int
    components: int
    samples: float
    several_scans: bool
    scan: int
    resources: int


def jpeg_segments(data: bytes, start: int = 0) -> Iterator[Segment]:
    """The segments of a JPEG up to its first scan.

    An end of the image before the first scan is skipped, because decoders skip it.

    Args:
        data: the file.
        start: offset of the JPEG in bytes.

    Raises:
        InvalidImage: too many segments.
    """
    at, last = start + len(SOI), len(data) - 10
    for _ in range(MAX_SEGMENTS):
        if at > last:
            return
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xFF):  # no marker, or a fill byte before one
            at += 1
        elif marker in NO_LENGTH:
            at += 2
        else:
            yield marker, at
            if marker == START_OF_SCAN:
                return
            at += 2 + max(2, (data[at + 2] << 8) + data[at + 3])
    raise InvalidImage(f"the JPEG has more than {MAX_SEGMENTS} segments")


def jpeg_frame(data: bytes, segments: Iterable[Segment]) -> JpegFrame | None:
    """What a JPEG says before its first scan; None if it has no frame."""
    header, resources = None, 0
    for marker, at in segments:
        if marker in FRAMES:
            header = marker, at
        elif marker == RESOURCES:
            resources += (data[at + 2] << 8) + data[at + 3]
        elif header and marker == START_OF_SCAN:
            return _frame(data, *header, at, data[at + 4], resources)
    return header and _frame(data, *header, len(data), 0, resources)


def _frame(
    data: bytes, marker: int, at: int, scan: int, in_first_scan: int, resources: int
) -> JpegFrame:
    height, width, components = FRAME_HEADER.unpack_from(data, at + 5)
    factors = data[at + 11 : at + 10 + 3 * components : 3]  # of each component
    across, down, blocks = 1, 1, 0
    for factor in factors:
        h, v = factor >> 4, factor & 15
        across, down, blocks = max(across, h), max(down, v), blocks + h * v
    several = marker not in SEQUENTIAL or in_first_scan < components
    samples = blocks / (across * down)
    return JpegFrame(marker, width, height, components, samples, several, scan, resources)


def jpeg_exif(data: bytes, segments: Iterable[Segment]) -> bytes:
    """The EXIF data of a JPEG; Pillow joins the segments and parses them when it opens the file."""
    return b"".join(
        data[at + 10 : at + 2 + (data[at + 2] << 8) + data[at + 3]]
        for marker, at in segments
        if marker == EXIF and data[at + 4 : at + 10] == EXIF_MARK
    )


def check_scans(data: bytes, segments: Iterable[Segment], max_pixels: int) -> None:
    """Refuse a JPEG whose scans would take longer to decode than its pixels.

    Args:
        data: the file.
        segments: of the file.
        max_pixels: a JPEG of this size may have the fewest scans.

    Raises:
        InvalidImage: too many scans.
        UnsupportedImageFormat: it is in arithmetic coding.
    """
    frame = jpeg_frame(data, segments)
    if frame is None:
        return
    if frame.marker in ARITHMETIC:  # its decoder computes for a long time even on an empty scan
        raise UnsupportedImageFormat("JPEGs in arithmetic coding are not accepted")
    if frame.several_scans:
        _refuse_scans(data, frame, max_pixels)


def max_scans(pixels: int, max_pixels: int) -> int:
    """How many scans a JPEG may have: the fewest at `max_pixels`, more if it is smaller."""
    return max(SCANS_OF_LARGEST, min(MAX_SCANS, SCANS_OF_LARGEST * max_pixels // max(pixels, 1)))


def _refuse_scans(data: bytes, frame: JpegFrame, max_pixels: int) -> None:
    """Refuse a JPEG with too many scans up to the end of the image."""
    pixels, at = frame.width * frame.height, frame.scan
    most = max_scans(pixels, max_pixels)
    if data.count(SCAN, at) <= most:  # an upper bound: bytes after the image are included
        return
    scans = 0
    while (found := MARKER.search(data, at)) and found[1][0] != END_OF_IMAGE:
        marker, at = found[1][0], found.end()
        scans += marker == START_OF_SCAN
        if scans > most:
            raise InvalidImage(
                f"the JPEG has more than {most} scans, the limit at {pixels} pixels; "
                "a baseline JPEG has one"
            )
        if marker not in NO_LENGTH:
            at += max(2, int.from_bytes(data[at : at + 2]))
