"""From a picture as Pillow opens it to RGB pixels at a network's input size.

Knows nothing of files, limits or networks; what to resize and crop to is the Preprocessing.
"""

from contextlib import suppress
from typing import NamedTuple

from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from models.preprocessing import Preprocessing, Size

TURNED = (5, 6, 7, 8)  # the EXIF orientations that exchange width and height
# and those that put a file's last column, or row, to the left and to the top
FROM_RIGHT, FROM_BELOW = (2, 3, 6, 7), (3, 4, 7, 8)


class Reduction(NamedTuple):
    """A picture that was decoded smaller than it is; all after its EXIF orientation."""

    whole: Size  # of the picture itself: (height, width)
    box: tuple[float, float, float, float]  # left, top, right, bottom of it in the smaller one


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture fully decoded, turned by its EXIF orientation, in RGB.

    Grey, palette, alpha, CMYK and 16-bit pictures become RGB as Pillow's `convert` makes them,
    which is the reference's way. Whatever Pillow raises for a damaged picture.
    """
    image.load()
    with suppress(Exception):  # broken metadata does not spoil the pixels
        ImageOps.exif_transpose(image, in_place=True)
    # says which palette entry is clear; converting would only warn that it is lost
    image.info.pop("transparency", None)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def reduce(image: Image.Image, preprocessing: Preprocessing) -> Reduction | None:
    """Have a JPEG decoded at the least of 1/8, 1/4 and 1/2 that is twice what it is resized to.

    The inverse cosine transform then makes 1, 2 x 2 or 4 x 4 pixels of a block's low frequencies
    instead of 8 x 8 of all of them.

    Args:
        image: as Pillow opens it, not decoded yet.
        preprocessing: what to resize it to; neither axis comes below twice that.

    Returns:
        What `fit` needs to know, or None where nothing is reduced.
    """
    if not isinstance(image, JpegImageFile):
        return None
    orientation = 1
    with suppress(Exception):  # broken metadata: `to_rgb` leaves such a picture as it lies
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    stored = image.size
    whole = stored if orientation in TURNED else stored[::-1]
    resized = preprocessing.resized_size(*whole)
    if resized is None:
        return None
    height, width = resized[::-1] if orientation in TURNED else resized
    drafted = image.draft(None, (2 * width, 2 * height))
    if drafted is None or image.size == stored:
        return None
    return Reduction(whole, _cover(image.size, drafted[1][2:], orientation))


def _cover(
    stored: tuple[int, int], covered: tuple[float, float], orientation: int
) -> tuple[float, float, float, float]:
    """Where a picture lies in its reduction, of whose last column and row it may cover a part."""
    (width, height), (across, down) = stored, covered
    if orientation in TURNED:
        width, height, across, down = height, width, down, across
    left = width - across if orientation in FROM_RIGHT else 0.0
    top = height - down if orientation in FROM_BELOW else 0.0
    return left, top, left + across, top + down


def fit(
    rgb: Image.Image, preprocessing: Preprocessing, reduction: Reduction | None = None
) -> Image.Image:
    """The picture resized and cropped as the checkpoint asks.

    Args:
        rgb: the picture.
        preprocessing: what the checkpoint asks for.
        reduction: how `rgb` was reduced; the whole picture decides the size.
    """
    whole, cover = reduction or ((rgb.height, rgb.width), None)
    size = preprocessing.resized_size(*whole)
    if size is not None and size != (rgb.height, rgb.width):
        resample = Image.Resampling(preprocessing.resample)
        rgb = rgb.resize((size[1], size[0]), resample, box=cover)
    box = preprocessing.crop_box(rgb.height, rgb.width)
    if box is not None:
        top, left, bottom, right = box
        rgb = rgb.crop((left, top, right, bottom))  # beyond the image it is black
    return rgb
