"""From a picture as Pillow opens it to RGB pixels at a network's input size.

Knows nothing of files, limits or networks; what to resize and crop to is the Preprocessing.
"""

from contextlib import suppress

from PIL import Image, ImageOps

from models.preprocessing import Preprocessing


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
    return image.convert("RGB")


def fit(rgb: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The picture resized and cropped as the checkpoint asks."""
    size = preprocessing.resized_size(rgb.height, rgb.width)
    if size is not None and size != (rgb.height, rgb.width):
        rgb = rgb.resize((size[1], size[0]), Image.Resampling(preprocessing.resample))
    box = preprocessing.crop_box(rgb.height, rgb.width)
    if box is not None:
        top, left, bottom, right = box
        rgb = rgb.crop((left, top, right, bottom))  # beyond the image it is black
    return rgb
