"""Numbers of any number of bits."""

import pytest

from app.core.errors import InvalidImage
from app.imaging.bit_reader import BitReader


def test_bits_are_read_from_the_highest():
    bits = BitReader(b"\xa5\x0f")
    assert [bits.take(count) for count in (1, 2, 5, 4, 0, 4)] == [1, 1, 5, 0, 0, 15]
    with pytest.raises(InvalidImage, match="truncated"):
        bits.take(1)


def test_exp_golomb_numbers():
    bits = BitReader(bytes([0b1_010_011_0, 0b0100_0010, 0b1_0000000]))
    assert [bits.golomb() for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(InvalidImage):
        BitReader(bytes(9)).golomb()
