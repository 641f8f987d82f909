"""A hostile file: its bytes and the expected response."""

import struct
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

BODY = 20 * 2**20  # bytes: the default limit of the service
SIDE = 7071  # pixels: the largest square within the limit of 50 million


@dataclass(frozen=True)
class Case:
    """A hostile file.

    Attributes:
        name: describes what is hostile.
        data: the file.
        code: the expected `ok` or error code; None where more than one is correct.
    """

    name: str
    data: bytes
    code: str | None


def drawn(
    kind: str, width: int = 64, height: int = 48, mode: str = "RGB", **options: object
) -> bytes:
    """A valid image."""
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def entries(size: int, big: bool, orientation: int | None = None) -> bytes:
    """A TIFF file or EXIF block whose directory has as many entries as fit.

    Args:
        size: the largest size of the block in bytes.
        big: whether the directory uses 64-bit offsets.
        orientation: the value of an orientation entry, which comes first.
    """
    header = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) if big else b"II*\0\x08\0\0\0"
    entry, each = ("<HHQQ", 20) if big else ("<HHII", 12)
    most = (size - len(header) - 16) // each
    count = most if big else min(65535, most)
    start = [] if orientation is None else [struct.pack(entry, 0x0112, 3, 1, orientation)]
    tags = (index % 65535 + 1 for index in range(count - len(start)))
    listed = b"".join([*start, *(struct.pack(entry, tag, 7, 16, 0) for tag in tags)])
    return header + struct.pack("<Q" if big else "<H", count) + listed + bytes(8)


def shared_directories(count: int, kind: int = 4) -> bytes:
    """An EXIF block that turns the image, and whose three directories are the same long one.

    Args:
        count: number of tags of that directory.
        kind: type of the offsets of directories.
    """
    pointers = b"".join(struct.pack("<HHII", tag, kind, 1, 50) for tag in (0x8769, 0x8825))
    first = struct.pack("<H", 3) + struct.pack("<HHII", 0x0112, 3, 1, 6) + pointers + bytes(4)
    tags = (struct.pack("<HHII", index % 65535 + 1, 4, 1, index) for index in range(count))
    return b"II*\0\x08\0\0\0" + first + struct.pack("<H", count) + b"".join(tags) + bytes(4)
