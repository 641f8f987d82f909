"""The decoders of AVIF and HEIC: which are installed, and how this process uses them."""

from collections.abc import Collection
from importlib.util import find_spec

from PIL import AvifImagePlugin, features

SEQUENCE_BRAND, STILL_BRAND = b"avis", b"avif"
MAIN_BRAND = slice(8, 12)  # bytes of a file


def check_formats(formats: Collection[str]) -> None:
    """Check that the decoders of these formats are installed.

    Args:
        formats: names in lower case.

    Raises:
        ValueError: a decoder is missing; the message says how to install it.
    """
    if "avif" in formats and not features.check("avif"):
        raise ValueError("image_formats: this Pillow cannot decode avif; install Pillow's wheel")
    if "heic" in formats and find_spec("pillow_heif") is None:
        raise ValueError(
            "image_formats: heic needs pillow-heif; run pip install 'patchserve[heif]', or "
            "make install EXTRAS=heif"
        )


def enable_formats(formats: Collection[str]) -> None:
    """Prepare the decoders of these formats. Call it once, at the start of a process.

    Each decodes in the calling thread alone: the service has a thread for each core. Of a HEIC, no
    thumbnails, depth images or gain maps are decoded.

    Args:
        formats: names in lower case.

    Raises:
        ValueError: a decoder is missing.
    """
    check_formats(formats)
    if "avif" in formats:
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if "heic" in formats:
        import pillow_heif  # an optional package, which registers itself

        pillow_heif.register_heif_opener(
            decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
        )


def as_still(kind: str, data: bytes) -> bytes:
    """The file, in which an AVIF sequence is declared a still image.

    The decoder then reads the primary image, whose limits are checked, and not the frames.
    """
    if kind == "AVIF" and data[MAIN_BRAND] == SEQUENCE_BRAND:
        return data[: MAIN_BRAND.start] + STILL_BRAND + data[MAIN_BRAND.stop :]
    return data
