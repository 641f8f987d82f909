"""Base64 of an image file: what is accepted, and what each usual mistake is told."""

import base64
import re

import pytest

from app.api.base64_image import decode_image
from tests.hostile.case import drawn

IMAGE = drawn("PNG")
BASE64 = base64.b64encode(IMAGE).decode()
URL_SAFE = base64.urlsafe_b64encode(b"\xfb\xff" * 30).decode()


@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "\n  ", "data:;BASE64,\n"])
def test_base64_and_data_uris_are_decoded(head):
    assert decode_image(head + BASE64) == IMAGE
    assert decode_image(head + BASE64[:76] + "\r\n" + BASE64[76:]) == IMAGE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://example.org/cat.jpg", "the service does not fetch addresses; send the bytes"),
        ("HTTP://example.org", "the service does not fetch addresses; send the bytes"),
        ("s3://bucket/cat.jpg", "the service does not fetch addresses; send the bytes"),
        ("file:///etc/passwd", "the service does not fetch addresses; send the bytes"),
        ("cat.jpg", "the text is the name of a file; send the bytes"),
        ("C:\\my pictures\\Cat.HEIC", "the text is the name of a file; send the bytes"),
        (f"b'{BASE64}'", "is a Python bytes object (b'...'); send its .decode()"),
        (repr(IMAGE), "is a Python bytes object (b'...'); send its .decode()"),
        ("data:image/png," + BASE64, "the data: URI is not base64; write data:image/png;base64,"),
        ("data:image/png;base64" + BASE64, "the data: URI has no comma; write data:"),
        (URL_SAFE, "in the URL-safe alphabet, with - and _; send the standard alphabet"),
        (BASE64[:-1] + "-", "in the URL-safe alphabet, with - and _; send the standard alphabet"),
        ("aGk", "3 characters are no multiple of 4; the text was cut, or the padding (=)"),
        ("aGkaGk=a", "there is more text after the padding (=)"),
        ("aGk=aGk=", "there is more text after the padding (=)"),
        ("aGkaG===", "the padding (=) is wrong"),
        ("aGka\u00e9Gk=", "character 5 is 'é', which the alphabet of base64 does not contain"),
        ("data:;base64,aG%3D", "character 16 is '%', which the alphabet"),
        ("aG\x00=", r"character 3 is '\x00', which the alphabet"),
        ("aG\u202e=", r"character 3 is '\u202e', which the alphabet"),
        (IMAGE.hex(), "the text is hexadecimal; send the bytes"),
        ("0x" + drawn("JPEG").hex().upper(), "the text is hexadecimal; send the bytes"),
        (drawn("BMP").hex(), "the text is hexadecimal; send the bytes"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_each_mistake_has_its_own_text(text, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        decode_image(text)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_no_image_in_base64_looks_like_a_mistake(kind):
    image = drawn(kind)
    assert decode_image(base64.b64encode(image).decode()) == image
