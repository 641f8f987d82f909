"""Sizes and pictures of HEVC data, made bit by bit."""

import struct

import pytest

from app.core.errors import InvalidImage
from app.imaging.hevc_structure import MAX_PICTURES, MAX_UNITS, hevc_size
from tests.hostile.heif import bits, golomb, hevc_parameters

EMPTY = bytes(21) + b"\3\0"  # a configuration: lengths of four bytes, no units
SLICE = struct.pack(">I", 3) + b"\x26\x01\x80"  # the first of a picture
PARAMETERS = hevc_parameters(640, 480)


def config(*units: bytes, count: int | None = None) -> bytes:
    listed = b"".join(struct.pack(">H", len(unit)) + unit for unit in units)
    number = len(units) if count is None else count
    return bytes(21) + b"\3\1\x21" + struct.pack(">H", number) + listed


def test_the_size_is_in_the_configuration_or_in_the_data():
    assert hevc_size(config(PARAMETERS[4:]), SLICE) == (640, 480)
    assert hevc_size(EMPTY, PARAMETERS + SLICE) == (640, 480)
    larger = hevc_parameters(3000, 2000)
    assert hevc_size(config(PARAMETERS[4:], b"", larger[4:]), SLICE) == (3000, 2000)
    assert hevc_size(config(PARAMETERS[4:]), larger + SLICE) == (3000, 2000)


def test_parameters_may_have_layers_and_all_chroma():
    ones = [(0xFF, 8)]
    unit = b"\x42\x01" + bits(
        (0, 4), (2, 3), (1, 1), *ones * 12, (3, 2), (1, 2), (0, 12), *ones * 11, *ones, *ones,
        golomb(0), golomb(3), (0, 1), golomb(640), golomb(480),
    )  # fmt: skip
    assert hevc_size(config(unit), SLICE) == (640, 480)


def test_emulation_prevention_is_removed():
    unit = b"\x42\x01" + bits((0, 4), (0, 3), (1, 1), *[(0, 8)] * 12, golomb(0), golomb(1),
                              golomb(640), golomb(480))  # fmt: skip
    escaped = unit[:3] + b"\0\0\3" * 6 + unit[15:]
    assert hevc_size(config(escaped), SLICE) == (640, 480)


@pytest.mark.parametrize(
    ("configuration", "data", "why"),
    [
        (b"", SLICE, "configuration is truncated"),
        (bytes(21) + b"\1\0", PARAMETERS + SLICE, "other than 4 bytes"),
        (EMPTY, SLICE, "has no size"),
        (EMPTY, b"", "has no size"),
        (EMPTY, struct.pack(">I", 8) + b"\x42\x09" + bytes(6), "has no size"),  # of another layer
        (EMPTY, PARAMETERS + SLICE * (MAX_PICTURES + 1), "more than 4 pictures"),
        (EMPTY, PARAMETERS + struct.pack(">I", 1) + b"\0" + bytes(4 * MAX_UNITS), "1000 units"),
        (config(PARAMETERS[4:], count=MAX_UNITS + 1), SLICE, "1000 units"),
        (config(b"\x42\x01\x01"), SLICE, "truncated"),
    ],
)
def test_other_data_is_refused(configuration, data, why):
    with pytest.raises(InvalidImage, match=why):
        hevc_size(configuration, data)
