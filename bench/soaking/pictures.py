"""The image files of the soak: good ones of several sizes and formats, and bad ones."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

from bench.serving import photographs

LARGE = (3000, 2000)  # 6 megapixels, like a photograph of a phone
SMALL = (160, 120)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the file of an image."""
    data = BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def rotated(image: Image.Image) -> bytes:
    """Return a JPEG whose EXIF orientation is a rotation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image, "JPEG", quality=85, exif=exif)


def good() -> dict[str, bytes]:
    """Return files that every decoder accepts, by a short description."""
    photo = photographs.draw(0)
    small = photo.resize(SMALL)
    frames = [photographs.draw(seed).resize(SMALL) for seed in (2, 3)]
    return {
        "JPEG": encoded(photo, "JPEG", quality=88),
        "progressive JPEG": encoded(photographs.draw(1), "JPEG", quality=88, progressive=True),
        "rotated JPEG": rotated(photo),
        "gray JPEG": encoded(photo.convert("L"), "JPEG", quality=85),
        "CMYK JPEG": encoded(small.convert("CMYK"), "JPEG", quality=85),
        "large JPEG": encoded(photo.resize(LARGE), "JPEG", quality=80),
        "PNG": encoded(small, "PNG"),
        "PNG with alpha": encoded(small.convert("RGBA"), "PNG"),
        "palette PNG": encoded(small.quantize(64), "PNG"),
        "WebP": encoded(photo, "WEBP", quality=80),
        "animated GIF": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "BMP": encoded(small, "BMP"),
        "TIFF": encoded(small, "TIFF", compression="tiff_lzw"),
    }


def truncated(files: dict[str, bytes]) -> list[bytes]:
    """Return files that end in the middle of their pixels."""
    names = ("JPEG", "progressive JPEG", "PNG", "WebP", "BMP", "TIFF")
    return [files[name][: len(files[name]) * part // 10] for name in names for part in (5, 8)]


def corrupt(files: dict[str, bytes]) -> list[bytes]:
    """Return files whose pixels are overwritten behind an intact header."""
    noise = np.random.default_rng(0).integers(0, 256, 10**6, dtype=np.uint8).tobytes()
    return [
        data[: len(data) // 3] + noise[: len(data) // 3] + data[2 * len(data) // 3 :]
        for data in (files["PNG"], files["PNG with alpha"])
    ]


def foreign() -> list[bytes]:
    """Return files that are no images, or of a format that is not accepted."""
    noise = np.random.default_rng(1).integers(0, 256, 50_000, dtype=np.uint8).tobytes()
    small = photographs.draw(0).resize(SMALL)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    return [
        b"\x00" + noise,
        b"%PDF-1.7\n" + noise,
        b"PK\x03\x04" + noise,
        svg,
        b"<!doctype html><p>not an image",
        encoded(small, "PPM"),
        encoded(small, "ICO"),
    ]


def bomb(side: int) -> bytes:
    """Return a PNG of a few kilobytes whose header declares side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10**6))
    return PNG_SIGNATURE + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
