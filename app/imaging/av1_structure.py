"""The structure of AV1 data in an AVIF: the size that its decoder allocates, and its frames.

The size in the container is only a claim: the decoder uses the one in the data (AV1 specification,
5.3 to 5.9).
"""

from typing import NamedTuple

from app.core.errors import InvalidImage
from app.imaging.bit_reader import BitReader

MAX_UNITS = 5_000  # of one image; a picture has at most 4096 tiles, each may be a unit
MAX_FRAMES = 4  # of one image: a still picture has one, a progressive one a few layers
SEQUENCE = 1  # types of units
FRAMES = frozenset({3, 6, 7})  # a header, a frame, and a copy of a header, which dav1d may use
KEY_FRAME, SWITCH_FRAME = 0, 3
SELECT = 2  # each frame decides
HEADER_BYTES = 64  # contain all fields that are read
SIZE_BYTES = 8  # at most, of the size of a unit


class Sequence(NamedTuple):
    """What a sequence header says.

    Attributes:
        width: in pixels.
        height: in pixels.
        still: whether its frames have the short header of a still picture.
        id_bits: bits of a frame's id.
        tools: whether frames use tools for screen content, or SELECT.
        integer_mv: whether frames have whole motion vectors, or SELECT.
    """

    width: int
    height: int
    still: bool
    id_bits: int
    tools: int
    integer_mv: int


def av1_size(data: bytes) -> tuple[int, int]:
    """Width and height of the largest frame in pixels.

    Raises:
        InvalidImage: truncated, too many units or frames, or frames of another size.
    """
    sequence, largest, frames, at = None, (0, 0), 0, 0
    for _ in range(MAX_UNITS):
        if at >= len(data):
            return largest
        kind, at, size = _unit(data, at)
        header = BitReader(data[at : at + min(size, HEADER_BYTES)])
        if kind == SEQUENCE:
            sequence = _sequence(header)
            largest = max(largest, sequence[:2], key=lambda side: side[0] * side[1])
        elif kind in FRAMES:
            frames += 1
            if sequence is None or frames > MAX_FRAMES:
                raise InvalidImage(f"the AV1 data has no header, or more than {MAX_FRAMES} frames")
            if not sequence.still:
                _refuse_resized(sequence, header)
        at += size
    raise InvalidImage(f"the AV1 data has more than {MAX_UNITS} units")


def _unit(data: bytes, at: int) -> tuple[int, int, int]:
    """Type, offset and size of the unit at an offset, without its header; both in bytes."""
    first = data[at]
    at += 2 if first & 4 else 1
    size = len(data) - at
    if first & 2:
        size, used = _leb128(data[at : at + SIZE_BYTES])
        at += used
    return first >> 3 & 15, at, size


def _leb128(data: bytes) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and how many bytes it has."""
    number = 0
    for place, byte in enumerate(data):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, place + 1
    raise InvalidImage("the AV1 data has a unit without a valid size")


def _sequence(bits: BitReader) -> Sequence:
    bits.take(4)  # profile, and whether it is a still picture
    still = bool(bits.take(1))
    _skip_operating_points(bits, still)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    id_bits = 0
    if not still and bits.take(1):
        id_bits = bits.take(4) + bits.take(3) + 3
    bits.take(3)  # coding tools
    tools = integer_mv = SELECT
    if not still:
        bits.take(4)  # coding tools
        if bits.take(1):
            bits.take(2)
        tools = SELECT if bits.take(1) else bits.take(1)
        if tools:
            integer_mv = SELECT if bits.take(1) else bits.take(1)
    return Sequence(width, height, still, id_bits, tools, integer_mv)


def _skip_operating_points(bits: BitReader, still: bool) -> None:
    if still:
        bits.take(5)
        return
    if bits.take(1):  # it changes the fields of frames, and pictures have none
        raise InvalidImage("the AV1 data has the timing of a video")
    has_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if has_delay and bits.take(1):
            bits.take(4)


def _refuse_resized(sequence: Sequence, bits: BitReader) -> None:
    """Refuse a frame that has a size of its own: it may be larger than its sequence says."""
    if bits.take(1):  # an earlier frame is shown again
        return
    kind, shown = bits.take(2), bits.take(1)
    if not shown:
        bits.take(1)
    if kind != SWITCH_FRAME and not (kind == KEY_FRAME and shown):
        bits.take(1)
    bits.take(1)
    tools = bits.take(1) if sequence.tools == SELECT else sequence.tools
    if tools and sequence.integer_mv == SELECT:
        bits.take(1)
    bits.take(sequence.id_bits)
    if kind == SWITCH_FRAME or bits.take(1):
        raise InvalidImage("the AV1 data has a frame with a size of its own")
