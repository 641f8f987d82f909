"""Owns the way from image bytes to RGB pixels at the model's input size, and every limit on pixels.

Knows nothing of batches or networks; what to resize and crop to is the checkpoint's Preprocessing.
"""

import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from models.preprocessing import Preprocessing
from numpy.typing import NDArray
from PIL import Image, ImageOps

from app.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat

MAGIC = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("WEBP", 8, b"WEBP"),
    ("GIF", 0, b"GIF8"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\x00"),
    ("TIFF", 0, b"MM\x00*"),
)
ACCEPTED = "image/jpeg, image/png, image/webp, image/gif, image/bmp, image/tiff"


@dataclass(frozen=True)
class Photo:
    """A decoded image.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, resized and cropped as the checkpoint asks.
        width: of the image after its EXIF orientation, in pixels.
        height: likewise.
        rgb: the whole image in RGB, where it was asked for.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    rgb: Image.Image | None = None


def decode(
    data: bytes, preprocessing: Preprocessing, *, max_pixels: int, keep_rgb: bool = False
) -> Photo:
    """Decode an image file fully and bring it to the model's input size.

    The first frame of an animation counts. After the EXIF orientation, grey, palette, alpha, CMYK
    and 16-bit images become RGB as Pillow's `convert` makes them, which is the reference's way.

    Args:
        data: the file; its format is taken from its first bytes, whatever anyone declared.
        preprocessing: what the checkpoint asks for.
        max_pixels: of the image, read from its header before anything is decoded.
        keep_rgb: keep the whole image too, to draw a mask over it.

    Raises:
        UnsupportedImageFormat: not one of JPEG, PNG, WebP, GIF, BMP, TIFF.
        ImageTooLarge: more than max_pixels.
        InvalidImage: truncated or corrupt.
    """
    rgb = _to_rgb(_open(data, max_pixels))
    pixels = np.asarray(_fit(rgb, preprocessing))
    return Photo(pixels, rgb.width, rgb.height, rgb if keep_rgb else None)


def forbid_bombs() -> None:
    """Make Pillow's warning of a decompression bomb an error; for a process, once, at its start."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def sniff(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes show, or None."""
    for name, offset, magic in MAGIC:
        if data.startswith(magic, offset):
            return name
    return None


def _open(data: bytes, max_pixels: int) -> Image.Image:
    kind = sniff(data)
    if kind is None:
        raise UnsupportedImageFormat(
            "the bytes are not a JPEG, PNG, WebP, GIF, BMP or TIFF image",
            headers={"Accept": ACCEPTED},
        )
    too_large = ImageTooLarge(
        f"the image has more than {max_pixels} pixels", limits={"max_image_pixels": max_pixels}
    )
    try:
        image = Image.open(BytesIO(data), formats=(kind,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large from None
    except Exception as error:
        raise InvalidImage(f"the {kind} header cannot be read") from error
    if image.width * image.height > max_pixels:
        raise too_large
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    kind = image.format
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        # says which palette entry is clear; converting would only warn that it is lost
        image.info.pop("transparency", None)
        return image.convert("RGB")
    except Exception as error:
        raise InvalidImage(f"the {kind} data is truncated or corrupt") from error


def _fit(rgb: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    size = preprocessing.resized_size(rgb.height, rgb.width)
    if size is not None and size != (rgb.height, rgb.width):
        rgb = rgb.resize((size[1], size[0]), Image.Resampling(preprocessing.resample))
    if preprocessing.crop_size is not None:
        top, left, bottom, right = preprocessing.crop_box(rgb.height, rgb.width)
        rgb = rgb.crop((left, top, right, bottom))  # beyond the image it is black
    return rgb
