"""Valid images of every format, mode and compression, from which mutants are made."""

import struct
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from tests.hostile import jpeg, others
from tests.hostile.case import drawn

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    *[("JPEG", {"mode": mode}) for mode in ("RGB", "L", "CMYK")],
    ("JPEG", {"progressive": True}),
    ("JPEG", {"subsampling": 0, "restart_marker_rows": 1}),
    ("JPEG", {"progressive": True, "mode": "L", "optimize": True}),
    *[("PNG", {"mode": mode}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")],
    ("PNG", {"mode": "P", "transparency": 3}),
    *[("WEBP", {"mode": mode}) for mode in ("RGB", "RGBA")],
    *[("WEBP", {"mode": mode, "lossless": True}) for mode in ("RGB", "RGBA")],
    *[("GIF", {"mode": mode}) for mode in ("L", "P")],
    ("GIF", {"mode": "P", "interlace": True, "transparency": 3}),
    *[("BMP", {"mode": mode}) for mode in ("RGB", "RGBA", "L", "P", "1")],
    *[
        ("TIFF", {"mode": mode})
        for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "F", "I", "CMYK", "LAB", "YCbCr")
    ],
    *[
        ("TIFF", {"compression": how})
        for how in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "zstd", "lzma")
    ],
    *[("TIFF", {"mode": "1", "compression": how}) for how in ("group3", "group4")],
    ("TIFF", {"big_tiff": True}),
    ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 4}}),
)
ANIMATED = ("GIF", "WEBP", "PNG", "TIFF", "MPO")


@cache
def seeds() -> tuple[bytes, ...]:
    """The images, all of 24 x 20 pixels: most bytes are then structure, not pixels."""
    plain = [picture(kind, **options) for kind, options in VARIANTS]
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif.get_ifd(0x8769)[0x9000] = b"0230"
    described = [
        drawn(kind, 24, 20, exif=exif, icc_profile=bytes(200), xmp=b"<x tiff:Orientation='3'/>")
        for kind in ("JPEG", "PNG", "WEBP", "TIFF")
    ]
    runs = struct.pack("4B", 255, 1, 0, 0) * 3 + b"\0\3abc\0\0\2\1\1\0\1"
    return (
        *plain,
        *described,
        *(animated(kind) for kind in ANIMATED),
        others.bmp(24, 20, runs, compression=1),
        drawn("GIF", 24, 20, comment=b"a comment"),
        jpeg.scans(24, 4),
    )


def picture(kind: str, mode: str = "RGB", **options: object) -> bytes:
    """An image of noise, so that few bytes repeat."""
    if mode == "I;16":
        file = BytesIO()
        Image.fromarray(np.arange(480, dtype=np.uint16).reshape(20, 24) * 100).save(file, kind)
        return file.getvalue()
    return drawn(kind, 24, 20, mode, **options)


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (24, 20), (80 * index, 9, 9)) for index in range(3)]
    file = BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()
