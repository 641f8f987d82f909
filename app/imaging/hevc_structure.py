"""The structure of HEVC data in a HEIC: the size that its decoder allocates, and its pictures.

The size in the container is only a claim: the decoder uses the one in the data (ITU-T H.265, 7.3).
"""

from collections.abc import Iterator

from app.core.errors import InvalidImage
from app.imaging.bit_reader import BitReader

MAX_UNITS = 1_000  # of one image; a picture has at most 600 slices
MAX_PICTURES = 4  # of one image: a still picture is one
PARAMETERS = 33  # type of a unit: a sequence parameter set, with the size
FIRST_OTHER = 32  # units of lower types are slices
CONFIG_BYTES = 23  # of a configuration, before its units
LENGTH_BYTES = 4  # of the length before a unit
HEADER_BYTES = 256  # contain all fields that are read


def hevc_size(config: bytes, data: bytes) -> tuple[int, int]:
    """Width and height of the largest picture in pixels.

    Args:
        config: the decoder's configuration, the contents of a box `hvcC`.
        data: the units of the image, each after its length.

    Raises:
        InvalidImage: no size, or too many units or pictures, or lengths of less than four bytes.
    """
    if len(config) < CONFIG_BYTES:
        raise InvalidImage("the HEVC configuration is truncated")
    if config[21] & 3 != LENGTH_BYTES - 1:  # libheif would read four bytes, whatever it says
        raise InvalidImage(f"the HEVC data has lengths of other than {LENGTH_BYTES} bytes")
    largest, pictures = (0, 0), 0
    units = [*_configured(config), *_units(data)]
    for unit in units:
        kind = unit[0] >> 1 & 63
        if kind < FIRST_OTHER:
            pictures += unit[2] >> 7  # set in the first slice of a picture
        elif kind == PARAMETERS and not (unit[0] & 1 or unit[1] >> 3):  # of the base layer
            largest = max(largest, _size(unit), key=lambda side: side[0] * side[1])
    if largest == (0, 0) or pictures > MAX_PICTURES:
        raise InvalidImage(f"the HEVC data has no size, or more than {MAX_PICTURES} pictures")
    return largest


def _configured(config: bytes) -> Iterator[bytes]:
    """The beginnings of the units in a configuration."""
    at, count = CONFIG_BYTES, 0
    for _ in range(config[CONFIG_BYTES - 1]):
        number = int.from_bytes(config[at + 1 : at + 3])
        at, count = at + 3, count + number
        if count > MAX_UNITS:
            raise InvalidImage(f"the HEVC configuration has more than {MAX_UNITS} units")
        for _ in range(number):
            size = int.from_bytes(config[at : at + 2])
            if size >= 3:
                yield config[at + 2 : at + 2 + min(size, HEADER_BYTES)].ljust(3, b"\0")
            at += 2 + size


def _units(data: bytes) -> Iterator[bytes]:
    """The beginnings of the units of an image."""
    at = 0
    for _ in range(MAX_UNITS):
        if at + LENGTH_BYTES >= len(data):
            return
        size = int.from_bytes(data[at : at + LENGTH_BYTES])
        at += LENGTH_BYTES
        if size >= 3:
            yield data[at : at + min(size, HEADER_BYTES)].ljust(3, b"\0")
        at += size
    raise InvalidImage(f"the HEVC data has more than {MAX_UNITS} units")


def _size(unit: bytes) -> tuple[int, int]:
    """Width and height in a sequence parameter set, in pixels."""
    bits = BitReader(unit[2:].replace(b"\0\0\3", b"\0\0"))  # without emulation prevention
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)  # profile and level
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.golomb()
    if bits.golomb() == 3:  # the chroma format
        bits.take(1)
    return bits.golomb(), bits.golomb()
