"""Reads numbers of any number of bits, as the headers of video codecs contain them."""

from app.core.errors import InvalidImage

MAX_GOLOMB_BITS = 32  # of an Exp-Golomb number


class BitReader:
    """Reads a short header bit by bit.

    Args:
        data: the header.
    """

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits as a number.

        Raises:
            InvalidImage: the header ends before.
        """
        self._left -= count
        if self._left < 0:
            raise InvalidImage("the header of the image's data is truncated")
        return (self._number >> self._left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """The next unsigned Exp-Golomb number."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > MAX_GOLOMB_BITS:
                raise InvalidImage("the header of the image's data is invalid")
        return (1 << zeros) - 1 + self.take(zeros)
