"""Hand-made GIFs, BMPs and WebPs that cost more than their size, or contradict their headers."""

import struct
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from tests.hostile.case import BODY, SIDE, Case, drawn

PALETTE = bytes(256 * 4)


def bmp(width: int, height: int, data: bytes, bits: int = 8, compression: int = 0) -> bytes:
    palette = PALETTE[: 4 << bits] if bits <= 8 else b""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0,
                       1 << bits if bits <= 8 else 0, 0)  # fmt: skip
    start = 14 + len(info) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + info + palette + data


def gif(width: int, height: int, between: bytes, frame: bytes | None = None) -> bytes:
    """A GIF of one code, with extra bytes between its header and its frame."""
    if frame is None:
        frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0"
    screen = struct.pack("<HHBBB", width, height, 0x91, 0, 0) + bytes(12)
    return b"GIF89a" + screen + between + frame + b";"


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width: int, height: int, flags: int = 2) -> tuple[bytes, bytes]:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def webp_frame() -> tuple[bytes, bytes]:
    """The smallest possible frame of an animation."""
    file = BytesIO()
    Image.new("RGB", (1, 1)).save(file, "WEBP", lossless=True)
    return b"ANMF", bytes(6) + bytes(6) + bytes([9, 0, 0, 0]) + file.getvalue()[12:]


def gifs() -> Iterator[Case]:
    yield Case("gif, of nothing, largest", gif(SIDE, SIDE, b""), None)
    yield Case("gif, too large", gif(65_535, 65_535, b""), "image_too_large")
    yield Case("gif, zero wide", gif(0, 9, b""), None)
    yield Case("gif, 1 x 65535", gif(1, 65_535, b""), None)
    far = b"," + struct.pack("<HHHHB", 65_000, 65_000, 500, 500, 0) + b"\x02\x02\x4c\x01\0"
    yield Case("gif, a frame far outside", gif(9, 9, b"", far), "image_too_large")
    comment = b"!\xfe" + b"\x01 " * (BODY // 2 - 99) + b"\0"
    yield Case("gif, a comment in small blocks", gif(9, 9, comment), "invalid_image")
    comment = b"!\xfe" + (b"\xff" + b" " * 255) * (BODY // 256 - 9) + b"\0"
    yield Case("gif, a comment in large blocks", gif(9, 9, comment), None)
    yield Case(
        "gif, many extensions",
        gif(9, 9, b"!\xf9\x04\0\0\0\0\0" * (BODY // 8 - 99)),
        "invalid_image",
    )
    clear = (b"\xff" + b"\x24\x49\x92" * 85) * 80_000 + b"\0"
    frame = b"," + struct.pack("<HHHHB", 0, 0, SIDE, SIDE, 0) + b"\x02" + clear
    yield Case("gif, the clear code again and again", gif(SIDE, SIDE, b"", frame), None)
    pictures = [Image.new("P", (16, 16), index % 7) for index in range(3000)]
    file = BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    yield Case("gif, of 3000 frames", file.getvalue(), "ok")


def bmps() -> Iterator[Case]:
    rle8, rle4 = 1, 2
    yield Case("bmp, of nothing, largest", bmp(SIDE, SIDE, b""), "invalid_image")
    yield Case("bmp, of -2 ** 31", bmp(9, -(2**31), bytes(99)), None)
    yield Case("bmp, upside down", bmp(8, -8, bytes(64)), "ok")
    yield Case("bmp, negative width", bmp(-8, 8, bytes(64)), None)
    yield Case("bmp, zero high", bmp(8, 0, bytes(64)), None)
    yield Case("bmp, 1 x 100000", bmp(1, 10**5, bytes(4 * 10**5)), "ok")
    yield Case("bmp, 100000 x 1", bmp(10**5, 1, bytes(10**5)), "ok")
    nothing = b"\0\0" * (BODY // 2 - 999)
    for name, bits, how in (("8", 8, rle8), ("4", 4, rle4)):
        yield Case(
            f"bmp, rle{name}, ends of lines",
            bmp(2000, 2000, nothing, bits, how),
            "unsupported_image_format",
        )
        yield Case(
            f"bmp, rle{name}, one line, largest", bmp(50_000_000, 1, b"\x01\0\0\0", bits, how), None
        )
        runs = b"\xff\x11" * (SIDE * SIDE // 255 + 9)
        yield Case(f"bmp, rle{name}, runs, largest", bmp(SIDE, SIDE, runs, bits, how), None)
        longest = b"\x02\x11" * (BODY // 2 - 999)
        yield Case(f"bmp, rle{name}, short runs", bmp(SIDE, SIDE, longest, bits, how), None)
        yield Case(
            f"bmp, rle{name}, runs beyond the line",
            bmp(1, 4_000_000, b"\xff\x11" * (BODY // 2 - 999), bits, how),
            None,
        )
        yield Case(
            f"bmp, rle{name}, deltas",
            bmp(SIDE, SIDE, b"\0\x02\xff\xff" * (BODY // 4 - 999), bits, how),
            None,
        )


def webps() -> Iterator[Case]:
    yield Case(
        "webp, a canvas too large", riff(canvas(16_384, 16_384), webp_frame()), "image_too_large"
    )
    yield Case(
        "webp, the largest canvas",
        riff(canvas(SIDE, SIDE), (b"ANIM", bytes(6)), webp_frame()),
        None,
    )
    frames = [webp_frame()] * (BODY // 70)
    yield Case(
        "webp, as many frames as fit", riff(canvas(9, 9), (b"ANIM", bytes(6)), *frames), None
    )
    yield Case(
        "webp, nothing but empty chunks",
        riff(canvas(9, 9, 0), *[(b"XXXX", b"")] * (BODY // 8 - 99)),
        "invalid_image",
    )
    for name, flag in ((b"ICCP", 32), (b"EXIF", 8), (b"XMP ", 4)):
        plain = drawn("WEBP")
        metadata = (name, bytes(BODY - len(plain) - 99))
        pixels = (plain[12:16], plain[20:])
        chunks = [metadata, pixels] if name == b"ICCP" else [pixels, metadata]
        yield Case(f"webp, huge {name.decode().strip()}", riff(canvas(64, 48, flag), *chunks), None)


def cases() -> Iterator[Case]:
    yield from gifs()
    yield from bmps()
    yield from webps()
