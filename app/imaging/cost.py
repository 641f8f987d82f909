"""Estimates from an image file's header what its decoding costs, before the image is queued.

The estimate runs on the event loop for every request. It reads fixed offsets and walks a bounded
number of segments, blocks or tags; it never decodes. A decoder reports errors later.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from app.core.errors import InvalidImage
from app.imaging.format_limits import gif_frame
from app.imaging.heif_structure import heif_size
from app.imaging.jpeg_structure import MAX_SCANS, SCAN, jpeg_frame, jpeg_segments
from app.imaging.tiff_structure import (
    BITS,
    COMPRESSION,
    LENGTH,
    MAX_STRIPS,
    OFFSETS,
    SAMPLES,
    TILE_LENGTH,
    TILE_WIDTH,
    UNCOMPRESSED,
    WIDTH,
    tiff_tags,
)

# The rates here and in the estimates are measured: the slow test
# test_the_costliest_files_are_not_underestimated in tests/app/imaging/test_cost.py compares them
# with the CPU time of decoding.
FIXED = 80_000.0  # work of any file, besides its pixels and bytes
REFUSAL = 10_000.0  # work of a file that the decoder refuses
SAMPLE_BYTES = 2**14  # at both ends of a JPEG; counting its scans takes 1 to 3 ns for each byte
USUAL_SCANS = 10  # of a progressive JPEG
PNG_HEADER_AT, PNG_HEADER = 16, struct.Struct(">IIBBBBB")  # width, height, bits, color, ...
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
BRANDS_END = 48  # bytes of an AVIF or HEIC that contain its brands
HEIF_COPIES = 2  # of an AVIF or HEIC in memory: Pillow copies it from another decoder
MAX_PIXEL_BYTES = 32  # of a TIFF that Pillow reads; a header may say anything


class DecodeCost(NamedTuple):
    """What decoding an image costs.

    Attributes:
        pixels: that the decoder holds in memory; tiles of a TIFF may extend beyond the image, and
            AVIF and HEIC count twice.
        work: in pixels of an ordinary JPEG (baseline, 4:2:0, quality 85), including the conversion
            to RGB and the resize to the model's input size.
    """

    pixels: int
    work: float


class Rates(NamedTuple):
    """Pixels of an image, the work of each pixel and of each byte of the file, and more work."""

    pixels: int
    per_pixel: float
    per_byte: float
    more: float = 0.0


class TiffRates(NamedTuple):
    """Work of a byte of pixels, of a byte of the file, and of a strip or tile."""

    raw: float
    file: float
    piece: float


UNKNOWN = DecodeCost(0, REFUSAL)
NOTHING = Rates(0, 0, 0)
TIFF_OTHER = TiffRates(0.5, 1, 400)
TIFF_RATES = {  # by compression
    1: TiffRates(0.1, 0, 1100),  # none: Pillow starts a decoder for each strip
    2: TiffRates(0.1, 2, 100),  # CCITT: runs, Group 3, Group 4
    3: TiffRates(0.1, 2, 100),
    4: TiffRates(0.1, 4.5, 100),
    5: TiffRates(0.1, 0.5, 100),  # LZW
    6: TiffRates(0.12, 1, 400),  # JPEG
    7: TiffRates(0.12, 1, 400),
    8: TiffRates(0.3, 0.4, 100),  # Deflate
    32946: TiffRates(0.3, 0.4, 100),
    32773: TiffRates(0.05, 0.05, 100),  # PackBits
    34925: TiffRates(0.2, 6, 300),  # LZMA
    50000: TiffRates(0.1, 0.2, 100),  # Zstandard
}


def decode_cost(data: bytes, max_pixels: int) -> DecodeCost:
    """Estimate the cost of decoding an image file.

    A file that is truncated, corrupt, of an unknown format or too large has a small cost: the
    decoder refuses it early.

    Args:
        data: the file.
        max_pixels: of an image that is accepted; the tiles of a TIFF may have twice as many.
    """
    estimate = ESTIMATES.get(data[:2])
    if estimate is None:
        return UNKNOWN
    try:
        pixels, per_pixel, per_byte, more = estimate(data)
    except (InvalidImage, struct.error, IndexError, OverflowError):
        return UNKNOWN
    if not 0 < pixels <= 2 * max_pixels:
        return UNKNOWN
    return DecodeCost(pixels, FIXED + pixels * per_pixel + len(data) * per_byte + more)


def _jpeg(data: bytes) -> Rates:
    frame = jpeg_frame(data, jpeg_segments(data))
    if frame is None:
        return NOTHING
    per_pixel = 0.65 + 0.12 * frame.samples + 0.4 * (frame.components > 3)  # CMYK
    more = 10.0 * frame.resources
    if not frame.several_scans:
        return Rates(frame.width * frame.height, per_pixel, 1, more)
    per_pixel += 0.08 * _scans(data, frame.scan)
    return Rates(frame.width * frame.height, per_pixel, 3, more)


def _scans(data: bytes, at: int) -> float:
    """Number of scans of a JPEG whose first scan begins at `at`; an estimate if it is long."""
    size = len(data) - at
    if size <= 2 * SAMPLE_BYTES:
        return min(data.count(SCAN, at), MAX_SCANS)
    sampled = data.count(SCAN, at, at + SAMPLE_BYTES) + data.count(SCAN, len(data) - SAMPLE_BYTES)
    return min(max(sampled * size / (2 * SAMPLE_BYTES), USUAL_SCANS), MAX_SCANS)


def _png(data: bytes) -> Rates:
    width, height, bits, color, _, _, interlaced = PNG_HEADER.unpack_from(data, PNG_HEADER_AT)
    raw = PNG_SAMPLES.get(color, 0) * min(bits, 16) / 8  # bytes of a pixel
    return Rates(width * height, 0.6 + 0.5 * raw + 0.5 * bool(interlaced), 1.5)


def _webp(data: bytes) -> Rates:
    """Rates of a lossy or a lossless image, or of a canvas, whose frames are either."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return Rates(width * height, 3.0, 3)
    if kind == b"VP8L":
        (sizes,) = struct.unpack_from("<I", data, 21)
        return Rates((1 + (sizes & 0x3FFF)) * (1 + (sizes >> 14 & 0x3FFF)), 2.5, 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return Rates((width & 0x3FFF) * (height & 0x3FFF), 1.5, 9)


def _gif(data: bytes) -> Rates:
    at = gif_frame(data)
    if at is None:
        return NOTHING
    width, height = struct.unpack_from("<HH", data, 6)
    left, top, across, down = struct.unpack_from("<HHHH", data, at + 1)
    return Rates(max(width, left + across) * max(height, top + down), 1.5, 0)


def _bmp(data: bytes) -> Rates:
    (size,) = struct.unpack_from("<I", data, 14)
    old = size == 12
    width, height, _, bits = struct.unpack_from("<HHHH" if old else "<iiHH", data, 18)
    return Rates(width * abs(height), 0.55 + 0.1 * min(bits, 32) / 8, 0)


def _tiff(data: bytes) -> Rates:
    tags = tiff_tags(data)
    values = {tag: found.value for tag, found in tags.items()}
    pixels = 1
    for side, tile in ((WIDTH, TILE_WIDTH), (LENGTH, TILE_LENGTH)):
        whole, step = values.get(side, 0), values.get(tile) or 1
        pixels *= -(-whole // step) * step
    raw = min(values.get(SAMPLES, 1) * values.get(BITS, 1) / 8, MAX_PIXEL_BYTES)
    rates = TIFF_RATES.get(values.get(COMPRESSION, UNCOMPRESSED), TIFF_OTHER)
    pieces = sum(min(tags[tag].length, MAX_STRIPS) for tag in OFFSETS if tag in tags) * rates.piece
    return Rates(pixels, 0.6 + raw * rates.raw, rates.file, pieces)


def _heif(data: bytes) -> Rates:
    """Rates of an AVIF or a HEIC by the size that it claims; `check_heif` checks the claim."""
    width, height = heif_size(data)
    held = width * height * HEIF_COPIES
    per_pixel, per_byte = (1.5, 6) if b"avi" in data[8:BRANDS_END] else (2.5, 8)
    return Rates(held, per_pixel / HEIF_COPIES, per_byte)


ESTIMATES: dict[bytes, Callable[[bytes], Rates]] = {
    b"\xff\xd8": _jpeg,
    b"\x89P": _png,
    b"RI": _webp,
    b"GI": _gif,
    b"BM": _bmp,
    b"II": _tiff,
    b"MM": _tiff,
    b"\0\0": _heif,
}
