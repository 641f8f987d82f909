"""Limits on the structure of image files: segments, scans, chunks, blocks, tags, strips.

A decoder spends time on each piece, so a small file with many pieces can take very long.
"""

from app.core.errors import InvalidImage
from app.imaging.heif_structure import check_heif
from app.imaging.jpeg_structure import check_scans, jpeg_exif, jpeg_segments
from app.imaging.tiff_structure import check_exif, check_tiff

MAX_CHUNKS = 65_536  # of a PNG; encoders write pixels in chunks of 8 KiB or more
MAX_BLOCKS = 4_096  # of a GIF before its first frame; a comment has one for each 255 bytes
SIGNATURE_BYTES, SCREEN_BYTES = 8, 13  # where PNG and GIF structure begins
EXTENSION, FRAME = 0x21, 0x2C  # first bytes of GIF blocks


def check_structure(kind: str, data: bytes, max_pixels: int) -> None:
    """Refuse a file if its structure would take longer to decode than its pixels.

    Args:
        kind: Pillow's name of its format.
        data: the file; a truncated one is left to the decoder to refuse.
        max_pixels: largest size of an image; a JPEG of this size may have the fewest scans.

    Raises:
        InvalidImage: too many segments, scans, chunks, color profiles, blocks, tags, strips, items
            or frames; an AVIF or HEIC that is larger than it claims.
        UnsupportedImageFormat: a JPEG in arithmetic coding, a big-endian BigTIFF, or an AVIF or
            HEIC of an unusual kind.
        ImageTooLarge: an AVIF or HEIC of more than `max_pixels`.
    """
    if kind == "JPEG":
        segments = list(jpeg_segments(data))
        check_exif(jpeg_exif(data, segments))
        check_scans(data, segments, max_pixels)
    elif kind == "PNG":
        _check_png(data)
    elif kind == "GIF":
        gif_frame(data)
    elif kind == "TIFF":
        check_tiff(data)
    elif kind in ("AVIF", "HEIC"):
        check_heif(kind, data, max_pixels)


def _check_png(data: bytes) -> None:
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
