"""Hand-made TIFFs that cost more than their size suggests, or contradict their headers."""

import lzma
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tests.hostile import jpeg
from tests.hostile.case import BODY, SIDE, Case, drawn, entries
from tests.hostile.png import zeros

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
OFFSETS, SAMPLES, ROWS, SIZES, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
RAW, G4, LZW, OLD_JPEG, JPEG, DEFLATE, PACKBITS, LZMA, ZSTD = (
    1, 4, 5, 6, 7, 8, 32773, 34925, 50000
)  # fmt: skip


BYTE, SHORT, LONG, LONG8 = 1, 3, 4, 16  # types that tags of pixels have
UNUSUAL = {"ASCII": 2, "RATIONAL": 5, "SBYTE": 6, "UNDEFINED": 7, "SSHORT": 8, "SLONG": 9,
           "FLOAT": 11, "DOUBLE": 12, "IFD": 13, "SLONG8": 17, "IFD8": 18}  # fmt: skip
PACKED = {BYTE: "B", 2: "B", SHORT: "H", LONG: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f",
          12: "d", 13: "I", LONG8: "Q", 17: "q", 18: "Q"}  # fmt: skip
EXIF = 0x8769  # a tag: offset of a directory


def tiff(
    tags: Mapping[int, int | Sequence[int]],
    data: bytes = b"",
    following: int = 0,
    types: Mapping[int, int] = {},
) -> bytes:
    """A little-endian TIFF: data at offset 8, then long lists, then one directory.

    Args:
        tags: their values.
        data: bytes of pixels.
        following: offset of the next directory.
        types: of tags that are not LONG.
    """
    lists = b""
    start = 8 + len(data)
    listed = []
    for tag, values in sorted(tags.items()):
        numbers, kind = [values] if isinstance(values, int) else values, types.get(tag, LONG)
        place = packed(numbers, kind)
        if len(place) > 4:
            lists, place = lists + place, struct.pack("<I", start + len(lists))
        listed.append(struct.pack("<HHI4s", tag, kind, len(numbers), place))
    directory = struct.pack("<H", len(listed)) + b"".join(listed) + struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", start + len(lists)) + data + lists + directory


def packed(numbers: Sequence[int], kind: int) -> bytes:
    if kind == UNUSUAL["RATIONAL"]:
        return b"".join(struct.pack("<II", number, 1) for number in numbers)
    return struct.pack(f"<{len(numbers)}{PACKED[kind]}", *numbers)


def gray(width: int, height: int, compression: int, data: bytes, **more: object) -> bytes:
    """A gray image in one strip."""
    tags = {WIDTH: width, HEIGHT: height, BITS: 8, COMPRESSION: compression, PHOTOMETRIC: 1,
            OFFSETS: 8, SAMPLES: 1, ROWS: height, SIZES: len(data)}  # fmt: skip
    return tiff(tags | more.get("tags", {}), data, types=more.get("types", {}))


def tiles(
    size: tuple[int, int],
    tile: tuple[int, int],
    data: bytes,
    compression: int = DEFLATE,
    apart: bool = False,
) -> bytes:
    """A gray image in tiles that all have the same data, or copies of it if `apart`."""
    count = -(-size[0] // tile[0]) * -(-size[1] // tile[1])
    offsets = range(8, 8 + count * len(data), len(data)) if apart else [8] * count
    tags = {WIDTH: size[0], HEIGHT: size[1], BITS: 8, COMPRESSION: compression, PHOTOMETRIC: 1,
            SAMPLES: 1, TILE_WIDTH: tile[0], TILE_HEIGHT: tile[1], TILE_OFFSETS: offsets,
            TILE_SIZES: [len(data)] * count}  # fmt: skip
    return tiff(tags, data * (count if apart else 1))


def with_exif(count: int) -> bytes:
    """A big TIFF with a directory of EXIF data that has so many tags."""
    tags = {WIDTH: 9, HEIGHT: 9, BITS: 8, COMPRESSION: RAW, PHOTOMETRIC: 1, OFFSETS: 16, ROWS: 9,
            SIZES: 81, EXIF: 16 + 81}  # fmt: skip
    exif = struct.pack("<Q", count)
    exif += b"".join(struct.pack("<HHQQ", tag % 65535 + 1, 4, 1, 9) for tag in range(count))
    listed = b"".join(struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16 + 81 + len(exif) + 8)
    return head + bytes(81) + exif + bytes(8) + struct.pack("<Q", len(tags)) + listed + bytes(8)


def big_endian(start: int = 2**19) -> bytes:
    """A big-endian BigTIFF; Pillow takes 16 bits of its header for the offset of a directory."""
    small = tiff({WIDTH: 9, HEIGHT: 9, BITS: 8, PHOTOMETRIC: 1, OFFSETS: 8, ROWS: 9}, bytes(81))
    fields = struct.iter_unpack("<HHII", small[8 + 81 + 2 : -4])
    listed = b"".join(struct.pack(">HHII", *field) for field in fields)
    directory = struct.pack(">H", len(listed) // 12) + listed + bytes(4)
    return b"MM\0+\0\x08\0\0".ljust(start, b"\0") + directory


def unusual_types() -> Iterator[Case]:
    """Tags of pixels in types that some decoders read, so that a check may not see them."""
    for name, kind in UNUSUAL.items():
        for tag in (WIDTH, HEIGHT, COMPRESSION, OFFSETS, SAMPLES):
            data = gray(9, 9, RAW, bytes(81), types={tag: kind})
            yield Case(f"tiff, tag {tag} as {name}", data, "invalid_image")
    million = BODY // 4 // 10**6 * 10**6
    for name in ("SLONG", "IFD"):
        types = {OFFSETS: UNUSUAL[name]}
        strips = gray(1, 100, RAW, bytes(99), tags={OFFSETS: [8] * million, ROWS: 1}, types=types)
        yield Case(f"tiff, {million} strips as {name}", strips, "invalid_image")
    scans = gray(2000, 2000, JPEG, jpeg.scans(2000, 99), types={COMPRESSION: UNUSUAL["SLONG"]})
    yield Case("tiff, JPEG of 100 scans, compression as SLONG", scans, "invalid_image")
    wide = gray(SIDE, SIDE, DEFLATE, zeros(SIDE * SIDE), types={WIDTH: UNUSUAL["SLONG"]})
    yield Case("tiff, largest, width as SLONG", wide, "invalid_image")
    yield Case("tiff, EXIF of many entries", with_exif(900_000), "invalid_image")
    yield Case("tiff, big, big-endian", big_endian(), "unsupported_image_format")


def cases() -> Iterator[Case]:
    yield from unusual_types()
    yield Case("tiff, zero wide", gray(0, 9, RAW, bytes(9)), "invalid_image")
    yield Case("tiff, zero high", gray(9, 0, RAW, bytes(9)), "invalid_image")
    yield Case("tiff, of 2 ** 31", gray(2**31, 2**31, RAW, bytes(9)), "image_too_large")
    yield Case("tiff, 1 x 100000", gray(1, 10**5, RAW, bytes(10**5)), "ok")
    yield Case("tiff, 100000 x 1", gray(10**5, 1, RAW, bytes(10**5)), "ok")
    million = BODY // 4 // 10**6 * 10**6
    strips = {OFFSETS: [8] * million, ROWS: 1}
    for height in (100, 50_000_000):
        lists = gray(1, height, RAW, bytes(99), tags=strips)
        yield Case(f"tiff, {million} strips, 1 x {height}", lists, "invalid_image")
    yield Case(
        "tiff, 100000 strips",
        gray(1, 10**5, RAW, bytes(10**5), tags={OFFSETS: list(range(8, 10**5 + 8)), ROWS: 1}),
        "ok",
    )
    yield Case(
        "tiff, a loop of directories",
        tiff(
            {
                WIDTH: 9,
                HEIGHT: 9,
                BITS: 8,
                COMPRESSION: RAW,
                PHOTOMETRIC: 1,
                OFFSETS: 8,
                ROWS: 9,
                SIZES: 81,
            },
            bytes(81),
            following=8 + 81,
        ),
        "ok",
    )
    yield Case(
        "tiff, a directory that is itself",
        b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 330, 4, 1, 8) + bytes(4),
        "invalid_image",
    )
    for big in (False, True):
        yield Case(
            f"tiff, nothing but entries{', 64 bits' * big}", entries(BODY, big), "invalid_image"
        )
    yield Case(
        "tiff, a tag of 2 ** 32 values",
        gray(9, 9, RAW, bytes(81)).replace(
            struct.pack("<HHI", BITS, 4, 1), struct.pack("<HHI", BITS, 4, 2**32 - 1)
        ),
        None,
    )
    yield Case(
        "tiff, 60000 samples", gray(9, 9, RAW, bytes(81), tags={SAMPLES: 60_000}), "invalid_image"
    )
    for name, compression, data in [
        ("deflate", DEFLATE, zeros(SIDE * SIDE)),
        ("deflate, bomb", DEFLATE, zeros(4 * 10**8)),
        ("lzma", LZMA, lzma.compress(bytes(SIDE * SIDE))),
        ("lzma, huge dictionary", LZMA, lzma.compress(bytes(99), filters=[
            {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**30}])),
        ("lzw", LZW, bytes(10**5)),
        ("packbits", PACKBITS, b"\x81\0" * (SIDE * SIDE // 128 + 9)),
        ("zstd", ZSTD, bytes(10**5)),
        ("g4", G4, b"\xff" * (BODY - 9000)),
    ]:  # fmt: skip
        one_bit = {BITS: 1} if compression == G4 else {}
        yield Case(
            f"tiff, largest, {name}", gray(SIDE, SIDE, compression, data, tags=one_bit), None
        )
    yield Case(
        "tiff, a tile larger than the image",
        tiles((1, 1), (20_000, 20_000), zeros(4 * 10**8)),
        None,
    )
    yield Case(
        "tiff, many tiles larger than the image",
        tiles((4_000_000, 1), (16, 3_000_000), zeros(16 * 3_000_000)),
        None,
    )
    noise = np.random.default_rng(5).bytes(2048 * 2048)
    shared = tiles((SIDE, SIDE), (2048, 2048), lzma.compress(noise, preset=0), LZMA)
    yield Case("tiff, tiles that share their data", shared, "invalid_image")
    yield Case("tiff, tiles of nothing", tiles((64, 64), (16, 16), b""), "invalid_image")
    for name, compression in (("jpeg", JPEG), ("old jpeg", OLD_JPEG)):
        inner = jpeg.scans(2000, 5000)
        old = {513: 8, 514: len(inner)} if compression == OLD_JPEG else {}
        yield Case(
            f"tiff, {name} of 5000 scans", gray(2000, 2000, compression, inner, tags=old), None
        )
        inner = jpeg.scans(SIDE, 9000)
        old = {513: 8, 514: len(inner)} if compression == OLD_JPEG else {}
        yield Case(
            f"tiff, largest, {name} of 9000 scans",
            gray(SIDE, SIDE, compression, inner, tags=old),
            None,
        )
        inner = jpeg.scans(64, 3)
        old = {513: 8, 514: len(inner)} if compression == OLD_JPEG else {}
        yield Case(
            f"tiff, {name} smaller than declared",
            gray(4000, 1000, compression, inner, tags=old),
            None,
        )
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "zstd"):
        yield Case(f"tiff, valid {compression}", drawn("TIFF", compression=compression), "ok")
    for mode in ("LA", "P"):
        yield Case(f"tiff, valid {mode}", drawn("TIFF", mode=mode), "ok")
    for mode in ("F", "I"):
        yield Case(f"tiff, {mode}", drawn("TIFF", mode=mode), "unsupported_image_format")
