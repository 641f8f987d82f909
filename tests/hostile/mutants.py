"""Mutated images: valid files with changed bits, bytes and parts.

Each mutant is a function of its number.
"""

import random
import struct
import zlib

from tests.hostile.png import MAGIC
from tests.hostile.seeds import seeds

LIMITS = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 4096, 32767, 65535, 2**16, 2**24, 2**31 - 1,
           2**31, 2**32 - 1)  # fmt: skip
WORDS = (">B", ">H", "<H", ">I", "<I", "<Q")
HEADER = 120  # bytes: contain most of the fields that describe the image


def mutant(number: int) -> bytes:
    """The image of this number: a seed after one to six changes."""
    rng = random.Random(number)  # noqa: S311  # no secret: it must be repeatable
    data = bytearray(rng.choice(seeds()))
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        rng.choice(CHANGES)(data, rng)
    if data.startswith(MAGIC) and rng.random() < 0.7:
        mend(data)
    return bytes(data)


def mend(data: bytearray) -> None:
    """Correct the checksums of a PNG; otherwise they would hide all other faults."""
    at = len(MAGIC)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4)
        at = end + 4


def place(data: bytearray, rng: random.Random) -> int:
    """A random position, in half of all cases in the header."""
    end = min(len(data), HEADER) if rng.random() < 0.5 else len(data)
    return rng.randrange(end) if end else 0


def span(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = place(data, rng)
    return start, start + rng.choice((1, 2, 4, 12, 50, 300))


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 10))):
        if data:
            data[place(data, rng)] ^= 1 << rng.randrange(8)


def write(data: bytearray, rng: random.Random) -> None:
    """Write a number that is often a limit, in a random width and byte order."""
    word, start = rng.choice(WORDS), place(data, rng)
    size = struct.calcsize(word)
    number = rng.choice((*LIMITS, rng.getrandbits(64))) % 256**size
    data[start : start + size] = struct.pack(word, number)


def insert(data: bytearray, rng: random.Random) -> None:
    start = place(data, rng)
    data[start:start] = rng.randbytes(rng.choice((1, 2, 4, 40)))


def delete(data: bytearray, rng: random.Random) -> None:
    start, end = span(data, rng)
    del data[start:end]


def duplicate(data: bytearray, rng: random.Random) -> None:
    start, end = span(data, rng)
    data[start:start] = data[start:end] * rng.choice((1, 1, 2, 30))


def swap(data: bytearray, rng: random.Random) -> None:
    """Swap two neighboring parts."""
    start, middle, end = sorted(place(data, rng) for _ in range(3))
    data[start:end] = data[middle:end] + data[start:middle]


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def splice(data: bytearray, rng: random.Random) -> None:
    """Replace the end by the end of another file."""
    other = rng.choice(seeds())
    data[place(data, rng) :] = other[rng.randrange(len(other)) :]


def transplant(data: bytearray, rng: random.Random) -> None:
    """Insert a part of another file."""
    other = bytearray(rng.choice(seeds()))
    start, end = span(other, rng)
    at = place(data, rng)
    data[at : at + rng.choice((0, end - start))] = other[start:end]


CHANGES = (flip, flip, write, write, insert, delete, duplicate, swap, truncate, splice, transplant)
