"""Decodes image files to RGB pixels at the model's input size, within limits on pixels."""

import ctypes
import re
import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from io import BytesIO
from math import ceil, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, _imaging
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TILELENGTH, TILEWIDTH

from app.core.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from app.core.malloc import release_after
from app.core.types import DEFAULT_IMAGE_FORMATS, IMAGE_FORMATS
from app.imaging.format_limits import check_structure
from app.imaging.heif_plugins import as_still
from app.imaging.tiff_structure import check_exif
from models.preprocessing import NO_RANGE, Preprocessing, Reduction, fit, reduce, to_rgb

SIGNATURES = {
    "jpeg": rb"\xff\xd8\xff",
    "png": rb"\x89PNG\r\n\x1a\n",
    "webp": rb"RIFF....WEBP",
    "gif": rb"GIF8[79]a",
    "bmp": rb"BM",
    "tiff": rb"II[*+]\x00|MM\x00[*+]",
    # the main brand of the file, or a compatible one
    "avif": rb"....ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,8}?avi[fs])",
    "heic": rb"....ftyp(?:he[iv][cxms]|m[is]f1.{4}(?:.{4}){0,8}?he[iv][cx])",
}
PLUGINS = {"HEIC": "HEIF"}  # Pillow's names of formats, where they differ from ours
MAGIC = tuple((name.upper(), SIGNATURES[name]) for name in IMAGE_FORMATS)
NAMES = {"WEBP": "WebP"}  # in error texts, where they differ from Pillow's names
MAX_PROFILE_BYTES = 2**20  # of a color profile; Pillow decompresses no more
MAX_SIDE = 2**20  # pixels of a side: a row has a cost even if it is one pixel wide
FORMATS = frozenset(name.upper() for name in DEFAULT_IMAGE_FORMATS)


class Photo(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, resized and cropped as the checkpoint asks.
        width: width of the whole image in pixels, after its EXIF orientation.
        height: height of the same.
        rgb: the whole image in RGB, if `keep_rgb` was set.
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
    reserved: int | None = None,
) -> Photo:
    """Decode an image file completely, then resize and crop it to the model's input size.

    Of an animation, the first frame is decoded. After the EXIF orientation, `to_rgb` makes RGB of
    gray, palette, alpha, CMYK and 16-bit images.

    Args:
        data: the file; its first bytes decide its format, not the declared media type.
        preprocessing: how the checkpoint resizes and crops.
        max_pixels: largest size of the image, checked in its header before decoding.
        formats: the accepted ones; decoders of other formats never run. `enable_formats` prepares
            those that are not in `FORMATS`.
        keep_rgb: keep the whole image too, to draw a mask over it.
        scaled: decode a JPEG at 1/2, 1/4 or 1/8 if that is at least twice the size that it is
            resized to; ignored with `keep_rgb`.
        reserved: pixels that are reserved for the image, from `decode_cost`; None does not limit.

    Raises:
        UnsupportedImageFormat: the format is not accepted.
        ImageTooLarge: more than `max_pixels`, in the file or after the resize.
        InvalidImage: truncated or corrupt, or the image has more pixels than are reserved.
    """
    image = _open(data, formats, max_pixels)
    pixels = _pixels(image)
    _refuse_large(image, pixels, preprocessing, max_pixels)
    _refuse_unknown_range(image)
    if reserved is not None and pixels > reserved:  # the estimate has read the file differently
        raise InvalidImage("the image is larger than its header says")
    reduction = reduce(image, preprocessing) if scaled and not keep_rgb else None
    # a progressive JPEG keeps all coefficients at any scale
    if reduction and not image.info.get("progressive"):
        pixels = _pixels(image)
    try:
        return _photo(image, preprocessing, reduction, keep_rgb)
    finally:
        release_after(pixels)


def _refuse_unknown_range(image: Image.Image) -> None:
    if image.mode in NO_RANGE:
        raise UnsupportedImageFormat(
            f"{image.format} images with 32-bit gray values, float or integer, are not accepted, "
            "because their range is unknown: convert the image to 8 bits"
        )


def _photo(
    image: Image.Image, preprocessing: Preprocessing, reduction: Reduction | None, keep_rgb: bool
) -> Photo:
    try:
        rgb = _to_rgb(image)
        height, width = reduction.whole if reduction else (rgb.height, rgb.width)
        fitted = np.asarray(fit(rgb, preprocessing, reduction))
        return Photo(fitted, width, height, _without_metadata(rgb) if keep_rgb else None)
    finally:
        if not keep_rgb:
            image.close()  # close now: a raised exception would keep the pixels alive


def _without_metadata(rgb: Image.Image) -> Image.Image:
    """The image without metadata, which Pillow would write into the PNG drawn over it.

    A color profile stays, unless it is too large for readers of the PNG.
    """
    profile = rgb.info.get("icc_profile") or b""
    rgb.info = {"icc_profile": profile} if 0 < len(profile) <= MAX_PROFILE_BYTES else {}
    return rgb


def limit_pillow_pixels(max_pixels: int | None = None) -> None:
    """Make Pillow itself refuse larger images. Call it once, at the start of a process.

    The default is Pillow's own limit for decompression bombs, 89 million pixels.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels or Image.MAX_IMAGE_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def silence_libtiff() -> None:
    """Let libtiff print nothing. Call it once, at the start of a process.

    It prints a line to standard error for each unknown tag of a file, a million bytes for one file.
    """
    pillow = ctypes.CDLL(_imaging.__file__)  # its libraries are searched, too
    for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
        with suppress(AttributeError):  # Pillow was built without libtiff
            getattr(pillow, name)(None)


def sniff(data: bytes) -> str | None:
    """The format according to the first bytes, or None."""
    for name, magic in MAGIC:
        if re.match(magic, data, re.DOTALL):
            return name
    return None


def _open(data: bytes, formats: Collection[str], max_pixels: int) -> Image.Image:
    kind = sniff(data)
    if kind is None or kind not in formats:
        accepted = [name for name, _ in MAGIC if name in formats]
        raise UnsupportedImageFormat(
            f"the bytes are not an image in an accepted format: {_names(accepted)}",
            headers={"Accept": ", ".join(f"image/{name.lower()}" for name in accepted)},
        )
    check_structure(kind, data, max_pixels)
    try:
        return Image.open(BytesIO(as_still(kind, data)), formats=(PLUGINS.get(kind, kind),))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("the image", max_pixels) from None
    except Exception as error:
        raise InvalidImage(f"the {kind} header cannot be read") from error


def _names(formats: Sequence[str]) -> str:
    *others, last = (NAMES.get(name, name) for name in formats)
    return f"{', '.join(others)} or {last}" if others else last


def _pixels(image: Image.Image) -> int:
    """Number of pixels that the decoder writes; tiles of a TIFF may extend beyond the image."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return image.width * image.height
    size = (tags.get(IMAGEWIDTH, image.width), tags.get(IMAGELENGTH, image.height))
    tile = (_side(tags.get(TILEWIDTH)), _side(tags.get(TILELENGTH)))
    return prod(ceil(whole / side) * side for whole, side in zip(size, tile, strict=True))


def _side(value: object) -> int:
    """The side of a TIFF tile, which the file may store as a byte; 1 if there are no tiles."""
    if isinstance(value, bytes):
        value = int.from_bytes(value[:1])
    return value if isinstance(value, int) and value > 0 else 1


def _refuse_large(
    image: Image.Image, pixels: int, preprocessing: Preprocessing, max_pixels: int
) -> None:
    if any(tile.codec_name == "bmp_rle" for tile in getattr(image, "tile", ())):
        raise UnsupportedImageFormat("run-length-compressed BMPs are not accepted")
    if image.width * image.height > max_pixels or pixels > 2 * max_pixels:
        raise _too_large("the image", max_pixels)
    if max(image.size) > MAX_SIDE:
        raise ImageTooLarge(
            f"the image has a side of more than {MAX_SIDE:,} pixels",
            limits={"max_image_side": MAX_SIDE},
        )
    if preprocessing.size is None:  # the long edge grows with the short one, without a bound
        height, width = preprocessing.resized_size(image.height, image.width) or (0, 0)
        if height * width > max_pixels:
            raise _too_large("the image, resized for the model,", max_pixels)


def _too_large(what: str, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(
        f"{what} has more than {max_pixels:,} pixels", limits={"max_image_pixels": max_pixels}
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    kind = image.format
    try:
        image.load()  # some formats have metadata after the pixels
        check_exif(_exif(image))
        return to_rgb(image)
    except InvalidImage:
        raise
    except Exception as error:
        raise InvalidImage(f"the {kind} data is truncated or corrupt") from error


def _exif(image: Image.Image) -> bytes:
    """The EXIF data that Pillow would parse; PNGs may have it in hexadecimal digits."""
    text = image.info.get("Raw profile type exif") or ""
    with suppress(ValueError, AttributeError):
        return image.info.get("exif") or bytes.fromhex("".join(text.split("\n")[3:]))
    return b""
