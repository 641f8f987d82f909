"""Decodes an image file from base64 or a data: URI; an error says what was sent instead."""

import base64
import re
from contextlib import suppress

from pydantic import ConfigDict, TypeAdapter, ValidationError

from app.core.types import IMAGE_SUFFIXES

BASE64 = TypeAdapter(bytes, config=ConfigDict(val_json_bytes="base64"))
ENCODE = "send the bytes of the image file as base64"
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)
FILE_NAME = re.compile(
    rf"[^\0\r\n]{{1,1000}}({'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})", re.IGNORECASE
)
PYTHON_BYTES = re.compile(r"b['\"]")
# how image files begin in hexadecimal digits; no image file begins so in base64
HEXADECIMAL = re.compile(
    r"(0x|\\x)?(ffd8ff|89504e47|47494638|52494646|49492a00|4d4d002a|424d[0-9a-f]{60})",
    re.IGNORECASE,
)
OUTSIDE = re.compile(r"[^A-Za-z0-9+/=\s]")  # the alphabet of base64
URL_ALPHABET = frozenset("-_")


def decode_image(text: str) -> bytes:
    """The bytes of an image file.

    Args:
        text: base64, perhaps with line breaks, or a data: URI of base64.

    Raises:
        ValueError: the text is neither; the message says what it is, and what to send.
    """
    start = _start_of_base64(text)
    if HEXADECIMAL.match(text, start):
        raise ValueError(f"the text is hexadecimal; {ENCODE}")
    encoded = text[start:]
    try:
        return _from_base64(encoded)
    except ValueError:  # from pydantic, base64 or binascii
        raise ValueError(_mistake(text, start)) from None


def _start_of_base64(text: str) -> int:
    """Where the base64 begins: at 0, or behind the head of a data: URI."""
    if text[:5].lower() != "data:":
        return 0
    head, comma, _ = text.partition(",")
    if not comma:
        raise ValueError("the data: URI has no comma; write data:image/png;base64,BASE64")
    if not head.lower().endswith(";base64"):
        raise ValueError("the data: URI is not base64; write data:image/png;base64,BASE64")
    return len(head) + 1


def _from_base64(text: str) -> bytes:
    # pydantic also accepts the URL alphabet
    if "-" not in text and "_" not in text and len(text) % 4 == 0:
        with suppress(ValidationError):
            return BASE64.validate_strings(text)  # four times faster than the standard library
    return base64.b64decode("".join(text.split()), validate=True)  # some tools insert line breaks


def _mistake(text: str, start: int) -> str:
    """What is wrong with a text that is not base64 from `start` on."""
    if ADDRESS.match(text):
        return f"the service does not fetch addresses; {ENCODE}"
    if FILE_NAME.fullmatch(text):
        return f"the text is the name of a file; {ENCODE}"
    if PYTHON_BYTES.match(text):
        return "not valid base64: the text is a Python bytes object (b'...'); send its .decode()"
    outside = OUTSIDE.search(text, start)
    if outside is None:
        return _wrong_padding("".join(text[start:].split()))
    if outside[0] in URL_ALPHABET:
        return (
            "not valid base64: the text is in the URL-safe alphabet, with - and _; "
            "send the standard alphabet, with + and /"
        )
    return (
        f"not valid base64: character {outside.start() + 1} is {outside[0]!r}, "
        "which the alphabet of base64 does not contain"
    )


def _wrong_padding(encoded: str) -> str:
    """What is wrong with a text of the alphabet, without white space."""
    if "=" in encoded.rstrip("="):
        return "not valid base64: there is more text after the padding (=); send one file"
    if len(encoded) % 4:
        return (
            f"not valid base64: {len(encoded)} characters are no multiple of 4; "
            "the text was cut, or the padding (=) is missing"
        )
    return "not valid base64: the padding (=) is wrong"
