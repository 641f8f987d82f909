"""Sizes and frames of AV1 data, made bit by bit."""

import pytest

from app.core.errors import InvalidImage
from app.imaging.av1_structure import MAX_FRAMES, MAX_UNITS, av1_size
from tests.hostile.heif import av1_frame, av1_sequence, bits

SIZE = ((15, 4), (15, 4), (639, 16), (479, 16))  # 640 x 480
FRAME, DELIMITER, COPY = 3, 2, 7


def unit(kind: int, contents: bytes) -> bytes:
    return bytes([kind << 3 | 2, len(contents)]) + contents


def sequence(*, ids: bool = False, points: int = 1, timing: bool = False) -> bytes:
    """The header of a video, in which every frame decides about its tools."""
    delays = points > 1
    point = [(0, 12), (8, 5), (0, 1), *([(1, 1), (3, 4)] if delays else [])]
    named = [(1, 1), (2, 4), (1, 3)] if ids else [(0, 1)]
    return unit(1, bits(
        (0, 3), (0, 2), (timing, 1), (delays, 1), (points - 1, 5), *(point * points), *SIZE,
        *named, (0, 3), (0, 4), (1, 1), (0, 2), (1, 1), (1, 1),
    ))  # fmt: skip


def frame(
    *, kind: int = 0, shown: bool = True, own: bool = False, tools: bool = False, ids: int = 0
) -> bytes:
    hidden = [] if shown else [(0, 1)]
    resilient = [] if kind == 3 or (kind == 0 and shown) else [(0, 1)]
    vectors = [(0, 1)] if tools else []
    size = [(own, 1)] if kind != 3 else []
    return unit(FRAME, bits(
        (0, 1), (kind, 2), (shown, 1), *hidden, *resilient, (0, 1), (tools, 1), *vectors,
        *([(0, ids)] if ids else []), *size,
    ))  # fmt: skip


@pytest.mark.parametrize("header", [sequence(), sequence(points=3)])
@pytest.mark.parametrize(
    "options", [{}, {"shown": False}, {"kind": 1}, {"kind": 2, "shown": False}, {"tools": True}]
)
def test_frames_have_the_size_of_their_sequence(header, options):
    assert av1_size(header + frame(**options)) == (640, 480)
    with pytest.raises(InvalidImage, match="a size of its own"):
        av1_size(header + frame(**options, own=True))


def test_frames_may_have_ids():
    header = sequence(ids=True)  # of 2 + 1 + 3 bits
    assert av1_size(header + frame(ids=6)) == (640, 480)
    with pytest.raises(InvalidImage, match="a size of its own"):
        av1_size(header + frame(ids=6, own=True))


def test_a_switch_frame_is_refused_and_a_repeated_one_is_not():
    with pytest.raises(InvalidImage, match="a size of its own"):
        av1_size(sequence() + frame(kind=3))
    assert av1_size(sequence() + unit(FRAME, bits((1, 1)))) == (640, 480)


def test_the_largest_of_several_sequences_counts():
    still = bytes([6 << 3 | 2, 1, 0])
    data = av1_sequence(90, 80) + still + av1_sequence(3000, 2000) + still + av1_sequence(9, 9)
    assert av1_size(data) == (3000, 2000)


def test_units_may_have_an_extended_header_and_no_size():
    header = sequence()
    extended = bytes([header[0] | 4, 0]) + header[1:]
    without_size = bytes([FRAME << 3]) + frame()[2:]
    assert av1_size(unit(DELIMITER, b"") + extended + without_size) == (640, 480)
    for zeros in range(7):  # a size of two to eight bytes
        long = bytes([header[0], header[1] | 0x80]) + b"\x80" * zeros + b"\0" + header[2:]
        assert av1_size(long) == (640, 480)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(), "no header"),
        (sequence() + frame() * (MAX_FRAMES + 1), "more than 4 frames"),
        (unit(DELIMITER, b"") * (MAX_UNITS + 1), "more than 5000 units"),
        (sequence(timing=True), "timing of a video"),
        (unit(1, b"\0"), "truncated"),
        (av1_frame(own_size=True), "a size of its own"),
        (sequence() + unit(COPY, frame(own=True)[2:]), "a size of its own"),
        (b"\x12" + b"\x80" * 8 + b"\0", "a valid size"),
        (b"\x12\x80", "a valid size"),
    ],
    ids=[
        *("no header", "frames", "units", "timing", "truncated", "own size", "copy of a header"),
        *("long size", "truncated size"),
    ],
)
def test_other_data_is_refused(data, why):
    with pytest.raises(InvalidImage, match=why):
        av1_size(data)
