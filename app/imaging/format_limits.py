"""Limits on the structure of image files: segments, scans, chunks, blocks, tags, strips.

A decoder spends time on each piece, and each scan of a JPEG costs as much as decoding the whole
image, so a small file with many pieces can take very long.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.core.errors import InvalidImage, UnsupportedImageFormat

MAX_SEGMENTS = 1_000  # of a JPEG before its first scan; cameras write some dozens
MAX_CHUNKS = 65_536  # of a PNG; encoders write pixels in chunks of 8 KiB or more
MAX_BLOCKS = 4_096  # of a GIF before its first frame; a comment has one for each 255 bytes
MAX_TAGS = 1_024  # of a TIFF's directory, and of all directories of EXIF data; cameras write dozens
MAX_SCANS = 100  # of a JPEG; encoders write ten if it is progressive
SCANS_OF_LARGEST = 20  # of a JPEG of the largest size: a scan costs 0.8 ns for each pixel
MAX_STRIPS = 131_072  # or tiles of a TIFF; encoders write at most one strip for a row
MAX_OVERLAP = 2  # bytes of all strips or tiles of a TIFF, for each byte of the file
SOI = b"\xff\xd8"  # the start of a JPEG
SOI_BYTES, SIGNATURE_BYTES, SCREEN_BYTES = 2, 8, 13  # where JPEG, PNG and GIF structure begins
START_OF_SCAN, END_OF_IMAGE, EXIF, RESOURCES = 0xDA, 0xD9, 0xE1, 0xED  # JPEG markers
NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers of frame headers
FRAME_HEADER = struct.Struct(">HHB")  # height, width, components
SEQUENTIAL, ARITHMETIC = (0xC0, 0xC1, 0xC3), range(0xC9, 0xD0)
MARKER = re.compile(
    rb"\xff([\x01-\xcf\xd8-\xfe])"
)  # not restarts or escaped bytes, which scans contain
EXTENSION, FRAME = 0x21, 0x2C  # first bytes of GIF blocks
COMPRESSION, UNCOMPRESSED, JPEG_COMPRESSIONS = 259, 1, (6, 7)  # a TIFF tag and its values
EXIF_MARK = b"Exif\0\0"
DIRECTORIES = frozenset({0x8769, 0x8825, 0xA005})  # EXIF, GPS, Interoperability: tags of offsets
OFFSETS, SIZES = (273, 324), (279, 325)  # TIFF tags: of strips and of tiles, in bytes
PIXEL_TAGS = frozenset({256, 257, 258, 259, 262, 277, 278, 284, 317, 322, 323, *OFFSETS, *SIZES})
TIFF_NUMBERS = {  # types of TIFF values: struct's character and bytes
    1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 16: ("Q", 8),
}  # fmt: skip


def check_structure(kind: str, data: bytes, max_pixels: int) -> None:
    """Refuse a file if its structure would take longer to decode than its pixels.

    Args:
        kind: Pillow's name of its format.
        data: the file; a truncated one is left to the decoder to refuse.
        max_pixels: largest size of an image; a JPEG of this size may have the fewest scans.

    Raises:
        InvalidImage: too many segments, scans, chunks, color profiles, blocks, tags or strips.
        UnsupportedImageFormat: a JPEG in arithmetic coding.
    """
    if kind == "JPEG":
        _jpeg(data, max_pixels)
    elif kind in CHECKS:
        CHECKS[kind](data)


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


def jpeg_segments(data: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """The marker and the offset in bytes of each segment of a JPEG up to its first scan.

    Args:
        data: the file.
        start: offset of the JPEG in bytes.

    Raises:
        InvalidImage: too many segments.
    """
    at, last = start + SOI_BYTES, len(data) - 10
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
            if marker in (START_OF_SCAN, END_OF_IMAGE):
                return
            at += 2 + max(2, (data[at + 2] << 8) + data[at + 3])
    raise InvalidImage(f"the JPEG has more than {MAX_SEGMENTS} segments")


def jpeg_frame(data: bytes, start: int = 0) -> JpegFrame | None:
    """What a JPEG at an offset in bytes says before its first scan; None if it has no frame.

    Raises:
        InvalidImage: too many segments.
    """
    header, resources = None, 0
    for marker, at in jpeg_segments(data, start):
        if marker in FRAMES:
            header = marker, at
        elif marker == RESOURCES:
            resources += (data[at + 2] << 8) + data[at + 3]
        elif header and marker in (START_OF_SCAN, END_OF_IMAGE):
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


def _jpeg(data: bytes, max_pixels: int) -> None:
    check_exif(b"".join(_exif_segments(data)))  # Pillow parses it when it opens the file
    frame = jpeg_frame(data)
    if frame is None:
        return
    if frame.marker in ARITHMETIC:  # its decoder computes for a long time even on an empty scan
        raise UnsupportedImageFormat("JPEGs in arithmetic coding are not accepted")
    if frame.several_scans:
        _refuse_scans(data, frame, max_pixels)


def _exif_segments(data: bytes) -> Iterator[bytes]:
    for marker, at in jpeg_segments(data):
        if marker == EXIF and data[at + 4 : at + 10] == EXIF_MARK:
            yield data[at + 10 : at + 2 + (data[at + 2] << 8) + data[at + 3]]


def max_scans(pixels: int, max_pixels: int) -> int:
    """How many scans a JPEG may have: the fewest at `max_pixels`, more if it is smaller."""
    return max(SCANS_OF_LARGEST, min(MAX_SCANS, SCANS_OF_LARGEST * max_pixels // max(pixels, 1)))


def _refuse_scans(data: bytes, frame: JpegFrame, max_pixels: int) -> None:
    """Refuse a JPEG with too many scans up to the end of the image."""
    pixels, at = frame.width * frame.height, frame.scan
    most = max_scans(pixels, max_pixels)
    if data.count(b"\xff\xda", at) <= most:  # an upper bound: bytes after the image are included
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


def _png(data: bytes) -> None:
    at, profiles = SIGNATURE_BYTES, 0
    for _ in range(MAX_CHUNKS):
        name = data[at + 4 : at + 8]
        if len(name) < 4 or name == b"IEND":
            return
        if (name == b"IHDR") != (at == SIGNATURE_BYTES):
            raise InvalidImage("the PNG does not have one header at its start")
        profiles += name == b"iCCP"
        if profiles > 1:  # each may decompress to a million bytes
            raise InvalidImage("the PNG has more than one color profile")
        at += 12 + int.from_bytes(data[at : at + 4])
    raise InvalidImage(f"the PNG has more than {MAX_CHUNKS} chunks")


def gif_frame(data: bytes) -> int | None:
    """Offset of a GIF's first frame in bytes; None if the file ends before.

    Raises:
        InvalidImage: too many blocks before the frame.
    """
    flags = data[SCREEN_BYTES - 3] if len(data) >= SCREEN_BYTES else 0
    at = SCREEN_BYTES + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension, end = False, len(data)
    for _ in range(MAX_BLOCKS):
        if at >= end:
            return None
        size = data[at]
        if in_extension:
            at, in_extension = at + 1 + size, size > 0
        elif size == FRAME:
            return at
        elif size == EXTENSION:
            at, in_extension = at + 2, True
        else:
            at += 1
    raise InvalidImage(f"the GIF has more than {MAX_BLOCKS} blocks before its first frame")


def _gif(data: bytes) -> None:
    gif_frame(data)


class TiffTag(NamedTuple):
    """A tag of a TIFF.

    Attributes:
        number: byte order and type of a value, as in the formats of `struct`.
        length: number of values.
        at: offset of the first value in bytes.
        value: the first value; 0 if it is beyond the end of the file.
    """

    number: str
    length: int
    at: int
    value: int


def tiff_tags(data: bytes) -> dict[int, TiffTag]:
    """The tags of a TIFF's first directory that describe its pixels; empty if it is truncated.

    Raises:
        InvalidImage: too many tags, or a tag twice.
    """
    tags = dict[int, TiffTag]()
    for tag, found in _directory(data, PIXEL_TAGS, "TIFF")[1]:
        if tag in tags:  # decoders differ in which one they use
            raise InvalidImage(f"the TIFF has tag {tag} twice")
        tags[tag] = found
    return tags


def check_exif(block: bytes) -> None:
    """Refuse an EXIF block with too many tags in its directories: Pillow parses them in Python.

    Raises:
        InvalidImage: too many tags.
    """
    block = re.sub(rb"^(Exif\0\0){1,2}", b"", block)
    count, starts = 0, [-1]
    while starts:
        length, pointers = _directory(block, DIRECTORIES, "EXIF data", starts.pop())
        count += length
        starts += [tag.value for _, tag in pointers]
        if count > MAX_TAGS:
            raise InvalidImage(f"the EXIF data has more than {MAX_TAGS} tags")


def _directory(
    data: bytes, wanted: frozenset[int], what: str, at: int = -1
) -> tuple[int, list[tuple[int, TiffTag]]]:
    """The number of tags in a TIFF's directory, and the wanted ones that are whole numbers.

    Args:
        data: the file.
        wanted: tags.
        what: a name of the file for the error.
        at: offset of the directory in bytes; the first directory if it is negative.
    """
    order, big = ("<" if data[:2] == b"II" else ">"), 43 in data[2:4]
    size, width = (20, 8) if big else (12, 4)  # of an entry, and of its value
    try:
        if at < 0:
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
        if tag in wanted and kind in TIFF_NUMBERS:
            number, bytes_ = order + TIFF_NUMBERS[kind][0], TIFF_NUMBERS[kind][1]
            inline = length * bytes_ <= width
            first = start + (index + 1) * size - width if inline else place
            found.append((tag, TiffTag(number, length, first, _number(number, data, first))))
    return count, found


def _number(number: str, data: bytes, at: int) -> int:
    """The number at an offset; 0 if it is beyond the end of the file."""
    try:
        value: int = struct.unpack_from(number, data, at)[0]
    except (struct.error, OverflowError):
        return 0
    return value


def _tiff(data: bytes) -> None:
    tags = tiff_tags(data)
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
        is_jpeg = data[start : start + SOI_BYTES] == SOI  # not so in an old one: only its scan
        frame = jpeg_frame(data, start) if is_jpeg else None
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


CHECKS: dict[str, Callable[[bytes], None]] = {
    "PNG": _png,
    "GIF": _gif,
    "TIFF": _tiff,
}
