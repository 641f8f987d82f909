"""Encodes PNG files with text chunks."""

from collections.abc import Mapping
from io import BytesIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def encode_png(image: Image.Image, texts: Mapping[str, str], **compression: int) -> bytes:
    """Encode an image as a PNG file.

    Args:
        image: the image.
        texts: the text of each text chunk (iTXt, UTF-8) by its keyword.
        compression: Pillow's options, such as `compress_level`.
    """
    chunks = PngInfo()
    for keyword, text in texts.items():
        chunks.add_itxt(keyword, text)
    file = BytesIO()
    image.save(file, "PNG", pnginfo=chunks, **compression)
    return file.getvalue()
