"""Hand-made AVIFs and HEICs whose containers or data contradict each other or cost too much."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO

import numpy as np
import pillow_heif
from PIL import Image

from app.imaging.heif_boxes import meta_boxes, read_items, read_properties
from tests.hostile.case import Case, drawn, entries

WIDTH, HEIGHT = 64, 64  # pixels: no codec extends them
HUGE = (60_000, 60_000)
CODES = {"AVIF": b"av01", "HEIC": b"hvc1"}
REFUSED = "invalid_image"


def box(kind: bytes, *contents: bytes) -> bytes:
    whole = b"".join(contents)
    return struct.pack(">I4s", 8 + len(whole), kind) + whole


def full(kind: bytes, version: int, *contents: bytes, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *contents)


def bits(*fields: tuple[int, int]) -> bytes:
    """Numbers of so many bits each, filled up with zero bytes."""
    text = "".join(f"{value:0{count}b}" for value, count in fields)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8)) + bytes(8)


def golomb(value: int) -> tuple[int, int]:
    length = (value + 1).bit_length()
    return value + 1, 2 * length - 1


def ispe(width: int, height: int) -> bytes:
    return full(b"ispe", 0, struct.pack(">II", width, height))


def heic(image: Image.Image, **options: object) -> bytes:
    """The picture as a HEIC; the plugin of Pillow need not be registered."""
    file = BytesIO()
    pillow_heif.from_pillow(image).save(file, **options)
    return file.getvalue()


@cache
def plain(kind: str, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A valid file of noise."""
    if kind == "AVIF":
        return drawn("AVIF", width, height)
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    return heic(Image.fromarray(pixels))


@cache
def coded(kind: str, width: int = WIDTH, height: int = HEIGHT) -> tuple[bytes, bytes]:
    """The data of a valid file's image, and the box with the configuration of its decoder."""
    data = plain(kind, width, height)
    meta = meta_boxes(data)
    items, properties = read_items(data, meta), read_properties(data, meta)
    item = next(each for each, name in items.kinds.items() if name == CODES[kind])
    contents = b"".join(data[start:end] for start, end in items.extents[item])
    config = b"av1C" if kind == "AVIF" else b"hvcC"
    (start, end) = next(span for name, span in properties.boxes if name == config)
    return contents, box(config, data[start:end])


def container(
    kind: str,
    items: Mapping[int, tuple[bytes, bytes]],
    properties: Sequence[bytes],
    used: Mapping[int, Sequence[int]],
    references: Sequence[tuple[bytes, int, Sequence[int]]] = (),
    more: bytes = b"",
    extents: int = 1,
) -> bytes:
    """A file.

    Args:
        kind: AVIF or HEIC.
        items: type and contents of each item; the first is the image.
        properties: boxes.
        used: numbers of properties of each item, from 1.
        references: type, item, and items that it refers to.
        more: boxes in `meta`.
        extents: how often the contents of each item are listed.
    """
    brand = kind.lower().encode()
    listed = b"".join(
        full(b"infe", 2, struct.pack(">HH4s", item, 0, name), b"\0")
        for item, (name, _) in items.items()
    )
    at, places = 0, b""
    for item, (_, contents) in items.items():
        place = struct.pack(">II", at, len(contents)) * extents
        places += struct.pack(">HHHH", item, 1, 0, extents) + place
        at += len(contents)
    associations = b"".join(
        struct.pack(">HB", item, len(numbers)) + bytes(numbers) for item, numbers in used.items()
    )
    refs = b"".join(
        box(name, struct.pack(f">HH{len(to)}H", item, len(to), *to))
        for name, item, to in references
    )
    meta = [
        full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
        full(b"pitm", 0, struct.pack(">H", next(iter(items)))),
        full(b"iinf", 0, struct.pack(">H", len(items)), listed),
        full(b"iloc", 1, b"\x44\0", struct.pack(">H", len(items)), places),
        *([full(b"iref", 0, refs)] if refs else []),
        box(
            b"iprp",
            box(b"ipco", *properties),
            full(b"ipma", 0, struct.pack(">I", len(used)), associations),
        ),
        more,
        box(b"idat", *(contents for _, contents in items.values())),
    ]
    ftyp = box(b"ftyp", brand, bytes(4), brand, b"mif1")
    return ftyp + full(b"meta", 0, *meta)


def single(
    kind: str, size: tuple[int, int] = (WIDTH, HEIGHT), data: bytes | None = None, **more: object
) -> bytes:
    """A file of one image, which claims a size."""
    contents, config = coded(kind)
    image = (CODES[kind], contents if data is None else data)
    return container(kind, {1: image}, [ispe(*size), config], {1: [1, 2]}, **more)


def grid(kind: str, rows: int, columns: int, size: tuple[int, int] | None = None) -> bytes:
    """A file whose image is a grid of equal tiles; of more than 16, all are the same item."""
    contents, config = coded(kind)
    whole, count = (columns * WIDTH, rows * HEIGHT), rows * columns
    layout = bytes([0, 1, rows - 1, columns - 1]) + struct.pack(">II", *(size or whole))
    tiles = range(2, 2 + count) if count <= 16 else [2] * count
    return container(
        kind,
        {1: (b"grid", layout), **dict.fromkeys(tiles, (CODES[kind], contents))},
        [ispe(*whole), ispe(WIDTH, HEIGHT), config],
        {1: [1], **{tile: [2, 3] for tile in tiles}},
        [(b"dimg", 1, list(tiles))],
    )


def av1_sequence(width: int, height: int) -> bytes:
    """A unit with the sequence header of a still picture."""
    header = bits((0, 3), (3, 2), (0, 5), (15, 4), (15, 4), (width - 1, 16), (height - 1, 16))
    return bytes([1 << 3 | 2, len(header)]) + header


def av1_frame(*, own_size: bool, kind: int = 3) -> bytes:
    """A sequence header for several frames, and a frame, perhaps with a size of its own."""
    sequence = bits(
        *[(0, 3), (0, 2), (0, 1), (0, 1), (0, 5), (0, 12), (0, 5)],
        *[(15, 4), (15, 4), (WIDTH - 1, 16), (HEIGHT - 1, 16)],
        *[(0, 1), (0, 3), (0, 4), (0, 1), (1, 1), (1, 1)],
    )
    frame = bits((0, 1), (0, 2), (1, 1), (0, 1), (0, 1), (own_size, 1))
    return b"".join(
        bytes([type_ << 3 | 2, len(unit)]) + unit for type_, unit in ((1, sequence), (kind, frame))
    )


def hevc_parameters(width: int, height: int) -> bytes:
    """A sequence parameter set, after its length."""
    profile = [(1, 8), *[(0xFF, 8)] * 11]  # no zero bytes, so nothing needs emulation prevention
    unit = b"\x42\x01" + bits(
        (0, 4), (0, 3), (1, 1), *profile, golomb(0), golomb(1), golomb(width), golomb(height)
    )
    return struct.pack(">I", len(unit)) + unit


def larger() -> Iterator[Case]:
    """Files whose data is larger than they claim."""
    for kind in CODES:
        contents, config = coded(kind, 256, 256)
        big = container(kind, {1: (CODES[kind], contents)}, [ispe(8, 8), config], {1: [1, 2]})
        yield Case(f"{kind}, larger than it claims", big, REFUSED)
        yield Case(f"{kind}, too large", single(kind, HUGE), "image_too_large")
        yield Case(f"{kind}, the largest of little data", single(kind, (7071, 7071)), REFUSED)
        yield Case(f"{kind}, a grid that is larger", grid(kind, 2, 2, HUGE), REFUSED)
    hidden = av1_sequence(60_000, 60_000) + coded("AVIF")[0]
    yield Case("AVIF, a hidden size", single("AVIF", data=hidden), REFUSED)
    yield Case("AVIF, a frame's size", single("AVIF", data=av1_frame(own_size=True)), REFUSED)
    copy = av1_frame(own_size=True, kind=7)
    yield Case("AVIF, the size of a copied header", single("AVIF", data=copy), REFUSED)
    # a unit of one byte, 0x12. If its size were read as five bytes instead of six, that byte would
    # begin a unit of ten bytes, which hides the size of the image; units without bytes follow
    padding = b"\x7a\x81\x80\x80\x80\x80\0\x12"
    hidden = padding + av1_sequence(60_000, 60_000)[:11] + b"\x12\0" * 3 + coded("AVIF")[0]
    yield Case("AVIF, a size hidden by a long number", single("AVIF", data=hidden), REFUSED)
    contents, config = coded("HEIC")
    hidden = hevc_parameters(60_000, 60_000) + contents
    yield Case("HEIC, a hidden size", single("HEIC", data=hidden), REFUSED)
    at = 8 + 21
    config = config[:at] + bytes([config[at] & 0xFC]) + config[at + 1 :]  # lengths of one byte
    unit = hevc_parameters(60_000, 60_000)[4:].ljust(300, b"\0")
    hidden = struct.pack(">I", len(unit)) + unit
    short = container("HEIC", {1: (b"hvc1", hidden)}, [ispe(64, 64), config], {1: [1, 2]})
    yield Case("HEIC, lengths of one byte", short, REFUSED)
    for kind in CODES:
        contents, config = coded(kind)
        two = [ispe(WIDTH, HEIGHT), ispe(*HUGE), config]
        sizes = container(kind, {1: (CODES[kind], contents)}, two, {1: [1, 2, 3]})
        yield Case(f"{kind}, two sizes", sizes, REFUSED)


def many() -> Iterator[Case]:
    """Files with too much of something."""
    for kind in CODES:
        contents, config = coded(kind)
        image = (CODES[kind], contents)
        yield Case(f"{kind}, 65025 tiles", grid(kind, 255, 255), REFUSED)
        yield Case(f"{kind}, one tile again and again", grid(kind, 5, 5), REFUSED)
        yield Case(f"{kind}, frames", single(kind, data=contents * 9), REFUSED)
        yield Case(f"{kind}, extents of the same bytes", single(kind, extents=50), REFUSED)
        items = dict.fromkeys(range(1, 1500), image)
        yield Case(f"{kind}, items", container(kind, items, [], {}), REFUSED)
        turns = [ispe(WIDTH, HEIGHT), config, *[box(b"irot", b"\1")] * 9]
        turned = container(kind, {1: image}, turns, {1: range(1, 12)})
        yield Case(f"{kind}, rotations", turned, REFUSED)
        exif = (b"Exif", bytes(4) + entries(60_000, big=False))
        tags = container(
            kind,
            {1: image, 2: exif},
            [ispe(WIDTH, HEIGHT), config],
            {1: [1, 2]},
            [(b"cdsc", 2, [1])],
        )
        yield Case(f"{kind}, EXIF tags", tags, REFUSED)
        yield Case(f"{kind}, a long sequence", single(kind) + box(b"moov", bytes(2**21)), REFUSED)
        yield Case(f"{kind}, boxes", single(kind) + box(b"free") * 9000, REFUSED)
        again = full(b"pitm", 0, b"\0\1")
        yield Case(f"{kind}, two images", single(kind, more=again), REFUSED)
        meta = full(b"meta", 0, again)
        yield Case(f"{kind}, two lists of items", single(kind) + meta, REFUSED)
        properties = box(b"ipco", box(b"free") * 900) * 99
        many_lists = single(kind, more=box(b"iprp", properties)).replace(b"iprp", b"free", 1)
        yield Case(f"{kind}, lists of properties", many_lists, REFUSED)
        profile = [ispe(WIDTH, HEIGHT), config, box(b"colr", b"prof", bytes(50_000))]
        colors = container(kind, {1: image}, profile, {item: [1, 2, 3] for item in range(1, 200)})
        yield Case(f"{kind}, color profiles of many images", colors, REFUSED)
        twice = {1: (b"grid", bytes([0, 1, 0, 0]) + struct.pack(">II", WIDTH, HEIGHT)), 2: image}
        tiles = [(b"dimg", 1, [2]), (b"dimg", 1, [2])]
        ambiguous = container(
            kind, twice, [ispe(WIDTH, HEIGHT), config], {1: [1], 2: [1, 2]}, tiles
        )
        yield Case(f"{kind}, two lists of tiles", ambiguous, REFUSED)
        described = {1: image, 2: (b"mime", bytes(20_000)), **dict.fromkeys(range(3, 40), image)}
        for name, shared in (
            ("many images", [(b"cdsc", 2, [1] * 900)]),
            ("one image again and again", [(b"cdsc", 2, [1])] * 900),
        ):
            copies = container(kind, described, [ispe(WIDTH, HEIGHT), config], {1: [1, 2]}, shared)
            yield Case(f"{kind}, metadata of {name}", copies, REFUSED)
        shared = [(b"thmb", 1, [2] * 3000)] * 1900
        references = container(kind, {1: image}, [ispe(WIDTH, HEIGHT), config], {1: [1, 2]}, shared)
        yield Case(f"{kind}, references", references, REFUSED)
        overlay = container(
            kind, {1: (b"iovl", bytes(64)), 2: image}, [ispe(WIDTH, HEIGHT)], {1: [1]}
        )
        yield Case(f"{kind}, an overlay", overlay, "unsupported_image_format")


def cases() -> Iterator[Case]:
    yield from larger()
    yield from many()
    for kind in CODES:
        yield Case(f"{kind}, as it should be", single(kind), "ok")
