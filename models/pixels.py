"""From a picture as Pillow opens it to RGB pixels at a network's input size.

Knows nothing of files, limits or networks; what to resize and crop to is the Preprocessing.
"""

from contextlib import suppress

from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from models.preprocessing import Preprocessing, Size

TURNED = (5, 6, 7, 8)  # the EXIF orientations that exchange width and height


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


def reduce(image: Image.Image, preprocessing: Preprocessing) -> Size | None:
    """Have a JPEG decoded at the least of 1/8, 1/4 and 1/2 that is twice what it is resized to.

    The inverse cosine transform then makes 1, 2 x 2 or 4 x 4 pixels of a block's low frequencies
    instead of 8 x 8 of all of them.

    Args:
        image: as Pillow opens it, not decoded yet.
        preprocessing: what to resize it to; neither axis comes below twice that.

    Returns:
        The (height, width) of the whole picture after its EXIF orientation, for `fit`; None where
        nothing was reduced.
    """
    if not isinstance(image, JpegImageFile):
        return None
    turned = False
    with suppress(Exception):  # broken metadata: `to_rgb` leaves such a picture as it lies
        turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
    stored = image.size
    whole = stored if turned else stored[::-1]
    resized = preprocessing.resized_size(*whole)
    if resized is None:
        return None
    height, width = resized[::-1] if turned else resized
    image.draft(None, (2 * width, 2 * height))
    return None if image.size == stored else whole


def fit(rgb: Image.Image, preprocessing: Preprocessing, whole: Size | None = None) -> Image.Image:
    """The picture resized and cropped as the checkpoint asks.

    Args:
        rgb: the picture.
        preprocessing: what the checkpoint asks for.
        whole: (height, width) of the picture that `rgb` was reduced from, which decides the size.
    """
    size = preprocessing.resized_size(*(whole or (rgb.height, rgb.width)))
    if size is not None and size != (rgb.height, rgb.width):
        rgb = rgb.resize((size[1], size[0]), Image.Resampling(preprocessing.resample))
    box = preprocessing.crop_box(rgb.height, rgb.width)
    if box is not None:
        top, left, bottom, right = box
        rgb = rgb.crop((left, top, right, bottom))  # beyond the image it is black
    return rgb
