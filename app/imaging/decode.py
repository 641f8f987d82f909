"""Owns the way from image bytes to RGB pixels at the model's input size, and every limit on pixels.

Knows nothing of batches or networks; what to resize and crop to is the checkpoint's Preprocessing.
"""

import re
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from math import ceil, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TILELENGTH, TILEWIDTH

from app.core.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from app.core.malloc import release_after
from app.core.types import IMAGE_FORMATS
from app.imaging.format_limits import refuse_excess
from models.preprocessing import Preprocessing, Reduction, fit, reduce, to_rgb

SIGNATURES = {
    "jpeg": rb"\xff\xd8\xff",
    "png": rb"\x89PNG\r\n\x1a\n",
    "webp": rb"RIFF....WEBP",
    "gif": rb"GIF8[79]a",
    "bmp": rb"BM",
    "tiff": rb"II[*+]\x00|MM\x00[*+]",
}
MAGIC = tuple((name.upper(), SIGNATURES[name]) for name in IMAGE_FORMATS)  # by Pillow's names
NAMES = {"WEBP": "WebP"}  # of those that are not written as Pillow writes them
LARGEST_PROFILE = 2**20  # bytes; Pillow unpacks no more
LONGEST_SIDE = 2**20  # pixels: a row costs more than the one pixel that it may have
FORMATS = frozenset(name for name, _ in MAGIC)


Hold = Callable[[int], AbstractContextManager[object]]


class Photo(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, resized and cropped as the checkpoint asks.
        width: of the whole image after its EXIF orientation, in pixels.
        height: likewise.
        rgb: the whole image in RGB, where it was asked for.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    rgb: Image.Image | None = None


def decode(
    data: bytes,
    preprocessing: Preprocessing,
    *,
    max_pixels: int,
    formats: Collection[str] = FORMATS,
    keep_rgb: bool = False,
    scaled: bool = False,
    hold: Hold = nullcontext,
) -> Photo:
    """Decode an image file fully and bring it to the model's input size.

    The first frame of an animation counts. After the EXIF orientation, grey, palette, alpha, CMYK
    and 16-bit images become RGB as Pillow's `convert` makes them, which is the reference's way.

    Args:
        data: the file; its format is taken from its first bytes, whatever anyone declared.
        preprocessing: what the checkpoint asks for.
        max_pixels: of the image, read from its header before anything is decoded.
        formats: of `FORMATS`, those that are taken; the code of no other ever sees the bytes.
        keep_rgb: keep the whole image too, to draw a mask over it.
        scaled: decode a JPEG at 1/2, 1/4 or 1/8 where that leaves twice the size that it is
            resized to; without effect where the whole image is kept.
        hold: entered with the number of pixels about to be decoded, once the header has been
            found acceptable, and left after them; a whole image that is kept outlives it.

    Raises:
        UnsupportedImageFormat: not one of those formats.
        ImageTooLarge: more than max_pixels, as it is or resized to its shortest edge.
        InvalidImage: truncated or corrupt.
    """
    image = _open(data, formats, max_pixels)
    pixels = _pixels(image)
    _refuse_large(image, pixels, preprocessing, max_pixels)
    reduction = reduce(image, preprocessing) if scaled and not keep_rgb else None
    if not image.info.get("progressive"):  # that keeps every coefficient, whatever the scale
        pixels = _pixels(image)
    try:
        with hold(pixels):
            return _photo(image, preprocessing, reduction, keep_rgb)
    finally:
        release_after(pixels)


def _photo(
    image: Image.Image, preprocessing: Preprocessing, reduction: Reduction | None, keep_rgb: bool
) -> Photo:
    try:
        rgb = _to_rgb(image)
        height, width = reduction.whole if reduction else (rgb.height, rgb.width)
        fitted = np.asarray(fit(rgb, preprocessing, reduction))
        return Photo(fitted, width, height, _alone(rgb) if keep_rgb else None)
    finally:
        if not keep_rgb:
            image.close()  # an error would keep it, pixels and all, until it is told


def _alone(rgb: Image.Image) -> Image.Image:
    """The image without the metadata that would be written into what is drawn over it.

    A colour profile stays if the PNG's readers will take it.
    """
    profile = rgb.info.get("icc_profile") or b""
    rgb.info = {"icc_profile": profile} if 0 < len(profile) <= LARGEST_PROFILE else {}
    return rgb


def forbid_bombs(max_pixels: int | None = None) -> None:
    """Make Pillow refuse what is larger, too; for a process, once, at its start.

    Without a limit it refuses what it calls a bomb: more than 89 million pixels.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels or Image.MAX_IMAGE_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def sniff(data: bytes) -> str | None:
    """Pillow's name of the format that the first bytes show, or None."""
    for name, magic in MAGIC:
        if re.match(magic, data, re.DOTALL):
            return name
    return None


def _open(data: bytes, formats: Collection[str], max_pixels: int) -> Image.Image:
    kind = sniff(data)
    if kind is None or kind not in formats:
        taken = [name for name, _ in MAGIC if name in formats]
        raise UnsupportedImageFormat(
            f"the bytes are not an image of a format that is taken here: {_names(taken)}",
            headers={"Accept": ", ".join(f"image/{name.lower()}" for name in taken)},
        )
    refuse_excess(kind, data)
    try:
        return Image.open(BytesIO(data), formats=(kind,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("the image", max_pixels) from None
    except Exception as error:
        raise InvalidImage(f"the {kind} header cannot be read") from error


def _names(formats: Sequence[str]) -> str:
    *others, last = (NAMES.get(name, name) for name in formats)
    return f"{', '.join(others)} or {last}" if others else last


def _pixels(image: Image.Image) -> int:
    """How many are decoded: of a TIFF all that its tiles have, which may reach beyond it."""
    tags = getattr(image, "tag_v2", {})
    size = (tags.get(IMAGEWIDTH, image.width), tags.get(IMAGELENGTH, image.height))
    tile = (_side(tags.get(TILEWIDTH)), _side(tags.get(TILELENGTH)))
    return prod(ceil(whole / side) * side for whole, side in zip(size, tile, strict=True))


def _side(value: object) -> int:
    """A tile's, where there are tiles; it may be written in a byte."""
    if isinstance(value, bytes):
        value = int.from_bytes(value[:1])
    return value if isinstance(value, int) and value > 0 else 1


def _refuse_large(
    image: Image.Image, pixels: int, preprocessing: Preprocessing, max_pixels: int
) -> None:
    if any(tile.codec_name == "bmp_rle" for tile in getattr(image, "tile", ())):
        raise UnsupportedImageFormat("a BMP that is compressed by runs is not taken")
    if image.width * image.height > max_pixels or pixels > 2 * max_pixels:
        raise _too_large("the image", max_pixels)
    if max(image.size) > LONGEST_SIDE:
        raise ImageTooLarge(
            f"the image has a side of more than {LONGEST_SIDE} pixels",
            limits={"max_image_side": LONGEST_SIDE},
        )
    if preprocessing.size is None:  # a sliver's long edge grows with its short one, without bounds
        height, width = preprocessing.resized_size(image.height, image.width) or (0, 0)
        if height * width > max_pixels:
            raise _too_large("the image, resized as the model asks,", max_pixels)


def _too_large(what: str, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"{what} has more than {max_pixels} pixels", limits={"max_image_pixels": max_pixels}
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    kind = image.format
    try:
        return to_rgb(image)
    except Exception as error:
        raise InvalidImage(f"the {kind} data is truncated or corrupt") from error
