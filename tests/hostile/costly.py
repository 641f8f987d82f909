"""Valid files that cost the most to decode: for each of their pixels, or for each of their bytes.

All of them are below the limits of the service, so they are decoded.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from PIL import Image

from tests.hostile import jpeg, others, png, tiff
from tests.hostile.case import Case

PAETH = 4  # a PNG filter


def noise(side: int, strength: int, mode: str = "RGB") -> Image.Image:
    """A picture of a gradient and noise: each picture has noise of its own."""
    rng = np.random.default_rng(side + strength)
    ramp = np.linspace(60, 190, side, dtype=np.int16)[:, None, None]
    pixels = ramp + rng.integers(-strength, strength + 1, (side, side, 3), np.int16)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpegs(side: int) -> Iterator[Case]:
    count = scans_of(side)
    yield Case(f"jpeg, gray, {count} refining scans", jpeg.refinements(side, count), "ok")
    yield Case(f"jpeg, gray, {count} first scans", jpeg.scans(side, count - 1), "ok")
    yield Case(f"jpeg, 4:4:4, {count} DC scans", jpeg.interleaved(side, count), "ok")
    for name, options in {
        "baseline": {},
        "4:4:4": {"subsampling": 0},
        "progressive": {"progressive": True, "subsampling": 0},
        "restarts after each block": {"subsampling": 0, "restart_marker_blocks": 1},
    }.items():
        yield Case(
            f"jpeg, noise, {name}", saved(noise(side, 40), "JPEG", quality=75, **options), "ok"
        )
    for options in ({}, {"progressive": True}):
        data = saved(noise(side, 20, "CMYK"), "JPEG", quality=75, **options)
        yield Case(f"jpeg, CMYK, {options}", data, "ok")


def scans_of(side: int) -> int:
    """The number of scans that the service accepts of a JPEG of this side."""
    return min(100, 10**9 // side**2)


def paeth(side: int, samples: int, color: int, bits: int, interlace: int = 0) -> bytes:
    """A PNG of random bits in Paeth-filtered rows; a block of rows repeats."""
    row, rows = side * samples * bits // 8, 16
    rng = np.random.default_rng(side)
    density = 0.03 if samples * bits > 30 else 0.2
    pixels = (rng.random((rows, 1 + row)) < density).astype(np.uint8)
    pixels[:, 0] = PAETH
    packer = zlib.compressobj(6, wbits=-15, strategy=zlib.Z_FILTERED)
    block = packer.compress(pixels.tobytes()) + packer.flush(zlib.Z_FULL_FLUSH)
    data = b"\x78\xda" + block * (side // rows + 1) + b"\x03\0"
    head = png.header(side, side, bits, color, interlace)
    return head + png.chunk(b"IDAT", data) + png.chunk(b"IEND")


def pngs(side: int) -> Iterator[Case]:
    for name, samples, color, bits in (
        ("gray", 1, 0, 8), ("RGB", 3, 2, 8), ("RGBA", 4, 6, 8), ("RGB, 16 bits", 3, 2, 16),
        ("RGBA, 16 bits", 4, 6, 16),
    ):  # fmt: skip
        yield Case(f"png, Paeth, {name}", paeth(side, samples, color, bits), "ok")
    yield Case("png, noise", saved(noise(side, 1), "PNG", compress_level=1), "ok")
    yield Case("png, 1 bit", png.black(side, side, bits=1, color=0), "ok")
    for color, bits in ((6, 16), (2, 8), (0, 1), (3, 8)):
        size = side * side * {6: 8, 2: 3, 0: 1, 3: 1}[color] + 4 * side
        data = png.chunk(b"PLTE", bytes(768)) * (color == 3) + png.chunk(b"IDAT", png.zeros(size))
        head = png.header(side, side, bits, color, interlace=1)
        yield Case(f"png, interlaced, color {color}", head + data + png.chunk(b"IEND"), "ok")


def gifs(side: int) -> Iterator[Case]:
    for interlace in (0, 1):
        for strength, colors in ((1, 4), (40, 8), (90, 64)):
            image = noise(side, strength, "L").quantize(colors)
            data = saved(image, "GIF", interlace=interlace, optimize=False)
            yield Case(f"gif, {colors} colors, interlaced {interlace}", data, "ok")
    frame = b"," + struct.pack("<HHHHB", side - 2, side - 2, 1, 1, 0) + b"\x02\x02\x4c\x01\0"
    yield Case("gif, a frame of one pixel", others.gif(side, side, b"", frame), "ok")


def webps(side: int) -> Iterator[Case]:
    for mode in ("RGB", "RGBA"):
        image = noise(side, 30, mode)
        if mode == "RGBA":
            image.putalpha(noise(side, 1, "L"))
        yield Case(f"webp, lossy, {mode}", saved(image, "WEBP", quality=80, method=1), "ok")
        lossless = saved(noise(side, 1, mode), "WEBP", lossless=True, quality=0, method=0)
        yield Case(f"webp, lossless, {mode}", lossless, "ok")
        better = saved(noise(side, 1, mode), "WEBP", lossless=True, quality=30, method=2)
        yield Case(f"webp, lossless, more transforms, {mode}", better, "ok")
    canvas = others.riff(others.canvas(side, side), (b"ANIM", bytes(6)), others.webp_frame())
    yield Case("webp, a frame of one pixel", canvas, "ok")


def bmps(side: int) -> Iterator[Case]:
    for bits in (1, 4, 8, 16, 24, 32):
        row = -(-side * bits // 32) * 4
        yield Case(f"bmp, {bits} bits", others.bmp(side, side, bytes(row * side), bits), "ok")


def tiffs(side: int) -> Iterator[Case]:
    for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", "jpeg"):
        for mode in ("L", "RGB", "CMYK"):
            image = noise(side, 1, mode)
            yield Case(f"tiff, {how}, {mode}", saved(image, "TIFF", compression=how), "ok")
    for how in ("group3", "group4"):
        for strength in (1, 40):
            image = noise(side, strength, "1")
            yield Case(f"tiff, {how}, {strength}", saved(image, "TIFF", compression=how), "ok")
    for mode in ("YCbCr", "RGBA"):
        for how in ("tiff_lzw", "tiff_adobe_deflate"):
            image = noise(side, 1, mode)
            yield Case(f"tiff, {how}, {mode}", saved(image, "TIFF", compression=how), "ok")
    predicted = saved(noise(side, 1), "TIFF", compression="tiff_adobe_deflate", tiffinfo={317: 2})
    yield Case("tiff, deflate with a predictor", predicted, "ok")
    rows = saved(noise(side, 1), "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: 1})
    yield Case("tiff, deflate, strips of a row", rows, "ok")
    yield from tiny_tiles(side)


def tiny_tiles(side: int) -> Iterator[Case]:
    """Tiles of 16 x 16 pixels; and raw strips of one row."""
    for name, compression, data in (
        ("deflate", tiff.DEFLATE, zlib.compress(bytes(256))),
        ("jpeg", tiff.JPEG, saved(noise(16, 1, "L"), "JPEG")),
        ("raw", tiff.RAW, bytes(256)),
        ("lzma", tiff.LZMA, tiff.lzma.compress(bytes(256))),
    ):
        tiles = tiff.tiles((side, side), (16, 16), data, compression, apart=True)
        yield Case(f"tiff, tiny tiles, {name}", tiles, "ok")
    strips = {tiff.OFFSETS: [8] * side, tiff.ROWS: 1, tiff.SIZES: [side] * side}
    yield Case("tiff, raw rows", tiff.gray(side, side, tiff.RAW, bytes(side), tags=strips), "ok")


def cases(side: int) -> Iterator[Case]:
    """Square images of this side in pixels."""
    for kind in (jpegs, pngs, gifs, webps, bmps, tiffs):
        yield from kind(side)
