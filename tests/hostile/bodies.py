"""Hostile bodies around an image: wrong wrappers, wrong declarations, other formats."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from tests.hostile.case import drawn
from tests.hostile.seeds import seeds

RAW: Mapping[str, str] = {}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=b"}


@dataclass(frozen=True)
class Body:
    """A request: its name, its headers, its body, and the codes of a correct response."""

    name: str
    headers: Mapping[str, str]
    content: bytes
    codes: tuple[str, ...]


def part(data: bytes, name: str = "file", more: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n{more}\r\n'
    return head.encode() + data + b"\r\n"


def truncated() -> Iterator[Body]:
    """Every seed, cut at every tenth.

    A file without its end mark can still be complete, and so can the first frame of an animation.
    """
    for number, data in enumerate(seeds()):
        with Image.open(BytesIO(data)) as seed:
            frames = getattr(seed, "n_frames", 1)
        for tenth in range(10):
            cut = data[: len(data) * tenth // 10]
            codes = ("empty_body",) if not cut else ("invalid_image", "unsupported_image_format")
            yield Body(
                f"seed {number}, cut at {tenth} tenths",
                RAW,
                cut,
                (*codes, *["ok"] * (tenth > 7 or frames > 1)),
            )


def unknown() -> Iterator[Body]:
    """Formats that are not enabled, and files that are no images."""
    for kind in (
        "ICO",
        "JPEG2000",
        "AVIF",
        "EPS",
        "PDF",
        "PPM",
        "TGA",
        "PCX",
        "SGI",
        "DDS",
        "ICNS",
    ):
        yield Body(kind, RAW, drawn(kind, 64, 64), ("unsupported_image_format",))
    svg = b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'aa'>]><svg>&a;</svg>"
    for name, data in (("PSD", b"8BPS\0\1" + bytes(99)), ("SVG", svg), ("zeros", bytes(10**6)),
                       ("one byte", b"\xff"), ("HEIC", b"\0\0\0\x18ftypheic" + bytes(99)),
                       ("a zip", b"PK\3\4" + bytes(99))):  # fmt: skip
        yield Body(name, RAW, data, ("unsupported_image_format",))


def polyglots() -> Iterator[Body]:
    """Files of two formats: the first bytes decide."""
    png, jpeg = drawn("PNG"), drawn("JPEG")
    yield Body("a PNG with a zip behind it", RAW, png + b"PK\3\4" + bytes(99), ("ok",))
    yield Body("a JPEG with a PDF behind it", RAW, jpeg + b"%PDF-1.7", ("ok",))
    yield Body(
        "a PDF with a JPEG behind it", RAW, b"%PDF-1.7" + jpeg, ("unsupported_image_format",)
    )
    yield Body("a PNG's mark on a JPEG", RAW, png[:8] + jpeg, ("invalid_image",))
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        for declared in ("image/svg+xml", "text/html", "application/pdf", "image/gif", "*/*;;=,"):
            yield Body(
                f"a {kind} declared as {declared}", {"content-type": declared}, drawn(kind), ("ok",)
            )


def wrapped() -> Iterator[Body]:
    """Multipart and JSON bodies that are broken, nested or full of garbage."""
    png = drawn("PNG")
    text = base64.b64encode(png).decode()
    inner = part(png).replace(b"--b", b"--c") + b"--c--\r\n"
    nested = part(inner, more="Content-Type: multipart/mixed; boundary=c\r\n") + b"--b--\r\n"
    bad = ("malformed_request",)
    yield Body("multipart in multipart", FORM, nested, bad)
    yield Body("two files", FORM, part(png) * 2 + b"--b--\r\n", bad)
    yield Body("10000 other parts", FORM, part(b"", "x") * 10**4 + part(png) + b"--b--\r\n", bad)
    others = part(b"", "x") * 20  # a form may contain parameters, but this is none
    yield Body("20 other parts", FORM, others + part(png) + b"--b--\r\n", ("invalid_parameter",))
    yield Body("no end", FORM, part(png), bad)
    yield Body("no boundary", {"content-type": "multipart/form-data"}, part(png), bad)
    long = {"content-type": f"multipart/form-data; boundary={'b' * 4000}"}
    yield Body("a boundary of 4000", long, part(png), bad)
    header = f"X: {'y' * 10**6}\r\n"
    yield Body(
        "a part's header of a megabyte", FORM, part(png, more=header) + b"--b--\r\n", ("ok", *bad)
    )
    yield Body("dashes", FORM, b"-" * 10**6, bad)
    yield Body("line ends", FORM, b"\r\n" * 10**6, bad)
    yield Body("an empty file", FORM, part(b"") + b"--b--\r\n", ("empty_body",))
    for name, value in (
        ("garbage", "!!!" + text), ("cut", text[:-3]),
        ("garbage inside", text[:40] + "§" + text[40:]),
        ("null byte", text[:40] + "\0" + text[40:]), ("a URL", "https://example.com/x.png"),
        ("a file", "file:///etc/passwd"), ("not base64", "data:image/png," + text),
        ("too much padding", text + "===="), ("a surrogate", "\ud800"),
    ):  # fmt: skip
        yield Body(f"base64: {name}", JSON, json.dumps({"image": value}).encode(), bad)
    nothing = ("empty_body", "malformed_request")
    yield Body("base64 of nothing", JSON, b'{"image": ""}', nothing)
    yield Body("base64 of white space", JSON, b'{"image": "    "}', nothing)
    for name, data in (
        ("deep", b'{"image": ' + b"[" * 10**5), ("deep objects", b'{"a":' * 10**5),
        ("not UTF-8", b'{"image": "\xff\xfe"}'), ("a number", b"1e400"), ("null", b"null"),
        ("a long number", b'{"image": ' + b"9" * 10**6 + b"}"), ("NaN", b'{"image": NaN}'),
        ("equal keys", b"{" + b'"image": "", ' * 10**5 + b'"image": 1}'),
    ):  # fmt: skip
        yield Body(f"JSON: {name}", JSON, data, bad)


def formats() -> Iterator[Body]:
    """Valid images in rare modes."""
    for mode in ("I;16", "LA", "P", "1"):
        file = BytesIO()
        Image.new(mode, (40, 30)).save(file, "PNG")
        yield Body(f"PNG of mode {mode}", RAW, file.getvalue(), ("ok",))


def bodies() -> Iterator[Body]:
    yield from truncated()
    yield from unknown()
    yield from polyglots()
    yield from wrapped()
    yield from formats()
