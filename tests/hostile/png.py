"""Hand-made PNGs that cost more than their size suggests, or contradict their headers."""

import struct
import zlib
from collections.abc import Iterator

from tests.hostile.case import BODY, SIDE, Case, drawn, entries, shared_directories

MAGIC = b"\x89PNG\r\n\x1a\n"
END_OF_HEADER = len(MAGIC) + 25


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def header(width: int, height: int, bits: int = 8, color: int = 2, interlace: int = 0) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    return MAGIC + chunk(b"IHDR", fields)


def zeros(count: int) -> bytes:
    """So many zeros, compressed; each full million repeats the same bytes."""
    million, rest = zlib.compressobj(9, wbits=-15), zlib.compressobj(9, wbits=-15)
    repeated = million.compress(bytes(10**6)) + million.flush(zlib.Z_FULL_FLUSH)
    last = rest.compress(bytes(count % 10**6)) + rest.flush()
    adler32 = struct.pack(">HH", count % 65521, 1)
    return b"\x78\xda" + repeated * (count // 10**6) + last + adler32


def black(width: int, height: int, **how: int) -> bytes:
    """A black image, by default in 8-bit RGB."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[how.get("color", 2)] * how.get("bits", 8)
    rows = zeros(height * (1 + (width * samples + 7) // 8))
    return header(width, height, **how) + chunk(b"IDAT", rows) + chunk(b"IEND")


def with_chunks(more: bytes, times: int = 1, last: bool = False) -> bytes:
    """A valid image with more chunks before or after its pixels."""
    plain = drawn("PNG")
    place = len(plain) - 12 if last else END_OF_HEADER
    return plain[:place] + more * times + plain[place:]


def fill(more: bytes) -> int:
    """The number of times that a chunk fits into a body."""
    return (BODY - 20_000) // len(more)


def cases() -> Iterator[Case]:
    yield Case("png, largest, of zeros", black(SIDE, SIDE), "ok")
    yield Case("png, largest, 16 bits with alpha", black(SIDE, SIDE, bits=16, color=6), "ok")
    yield Case(
        "png, largest, interlaced",
        header(SIDE, SIDE, interlace=1)
        + chunk(b"IDAT", zeros(SIDE * SIDE * 3 + 2 * SIDE * 3))
        + chunk(b"IEND"),
        None,
    )
    yield Case("png, 1 x 100000", black(1, 100_000), "ok")
    yield Case("png, 100000 x 1", black(100_000, 1), "ok")
    yield Case("png, 1 x 50000000", black(1, 50_000_000, color=0), "image_too_large")
    yield Case("png, 1 x 1", black(1, 1), "ok")
    yield Case("png, zero wide", header(0, 5) + chunk(b"IDAT", zeros(5)) + chunk(b"IEND"), None)
    yield Case("png, zero high", header(5, 0) + chunk(b"IDAT", zeros(5)) + chunk(b"IEND"), None)
    yield Case("png, of 2 ** 31", header(2**31, 2**31) + chunk(b"IEND"), "image_too_large")
    yield Case(
        "png, one pixel of 200 megabytes",
        header(1, 1) + chunk(b"IDAT", zeros(2 * 10**8)) + chunk(b"IEND"),
        None,
    )
    bomb = chunk(b"zTXt", b"k\0\0" + zeros(10**8))
    yield Case("png, exploding text", with_chunks(bomb), "invalid_image")
    million = zlib.compress(bytes(2**20 - 9), 9)
    text = chunk(b"zTXt", b"k\0\0" + million)
    yield Case("png, many texts", with_chunks(text, fill(text)), "invalid_image")
    profile = chunk(b"iCCP", b"k\0\0" + zeros(10**8))
    yield Case("png, exploding ICC", with_chunks(profile), "invalid_image")
    profile = chunk(b"iCCP", b"k\0\0" + million)
    yield Case("png, many ICC", with_chunks(profile, fill(profile)), "invalid_image")
    for last in (False, True):
        where = "behind" if last else "before"
        for name in (b"teSt", b"gAMA", b"tEXt"):
            empty = chunk(name)
            yield Case(
                f"png, empty {name.decode()} chunks {where} the pixels",
                with_chunks(empty, fill(empty), last),
                "invalid_image",
            )
    empty = chunk(b"IDAT")
    many = header(64, 48) + empty * fill(empty) + drawn("PNG")[END_OF_HEADER:]
    yield Case("png, empty pixel chunks", many, "invalid_image")
    for big in (False, True):
        exif = chunk(b"eXIf", entries(BODY - 20_000, big))
        yield Case(f"png, EXIF of many entries{', 64 bits' * big}", with_chunks(exif), None)
        exif = chunk(b"eXIf", entries(BODY - 20_000, big, orientation=6))
        yield Case(f"png, EXIF of many entries, turned{', 64 bits' * big}", with_chunks(exif), None)
    for kind in (4, 13):  # LONG, IFD
        exif = chunk(b"eXIf", shared_directories(60_000, kind))
        name = f"png, EXIF of shared directories, offsets of type {kind}, turned"
        yield Case(name, with_chunks(exif), "invalid_image")
    raw = b"\nexif\n 99\n" + entries(BODY // 2 - 9000, True, orientation=6).hex().encode()
    yield Case(
        "png, EXIF as text", with_chunks(chunk(b"tEXt", b"Raw profile type exif\0" + raw)), None
    )
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orientation=" * (BODY // 17 - 999)
    yield Case("png, huge XMP", with_chunks(chunk(b"iTXt", xmp)), None)
    frames = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield Case("png, animated by 2 ** 31 frames", with_chunks(frames), None)
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 1, 0, 0))
    yield Case("png, animated, many controls", with_chunks(control, fill(control)), "invalid_image")
