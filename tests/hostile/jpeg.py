"""Hand-made JPEGs that cost more than their size suggests, or contradict their headers."""

import struct
from collections.abc import Iterator

from tests.hostile.case import BODY, SIDE, Case, drawn

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def frame(marker: int, width: int, height: int, components: int = 1, bits: int = 8) -> bytes:
    """A frame header: kind, size, and components that share a quantization table."""
    each = b"".join(struct.pack("BBB", 1 + index, 0x11, 0) for index in range(components))
    return segment(marker, struct.pack(">BHHB", bits, height, width, components) + each)


def scan(data: bytes, first: int, last: int, approximation: int = 0, component: int = 1) -> bytes:
    """A scan of one component's coefficients from `first` to `last`."""
    return segment(0xDA, struct.pack("BBBBBB", 1, component, 0, first, last, approximation)) + data


def tables() -> bytes:
    """Quantization, and tables of one code: DC difference 0, end of at least 2 ** 14 blocks."""
    one_code = bytes([1, *[0] * 15])
    return (
        segment(0xDB, b"\x00" + bytes([16] * 64))
        + segment(0xC4, b"\x00" + one_code + b"\x00")
        + segment(0xC4, b"\x10" + one_code + b"\xe0")
    )


def nothing(side: int) -> bytes:
    """The data of a scan in which no block has anything: runs of 2 ** 14 blocks and more."""
    blocks = (-(-side // 8)) ** 2
    ends = "".join("0" + "1" * 14 for _ in range(blocks // 32767)) + "0" + "0" * 14
    ends += "1" * (-len(ends) % 8)
    data = bytes(int(ends[i : i + 8], 2) for i in range(0, len(ends), 8))
    return data.replace(b"\xff", b"\xff\x00")


def scans(side: int, count: int, marker: int = 0xC2) -> bytes:
    """A progressive image of one gray, in which every scan repeats that nothing follows."""
    empty = scan(nothing(side), 1, 63)
    return SOI + tables() + frame(marker, side, side) + first(side) + empty * count + EOI


def first(side: int, approximation: int = 0) -> bytes:
    """The first scan: all blocks have the same mean."""
    return scan(bytes((-(-side // 8)) ** 2 // 8 + 1), 0, 0, approximation)


def refinements(side: int, count: int) -> bytes:
    """A gray image of `count` scans; all but two refine coefficients, of which there are none.

    A refining scan visits each coefficient of each block, so it costs more than other scans.
    """
    head = SOI + tables() + frame(0xC2, side, side) + first(side)
    refining = scan(nothing(side), 1, 63, 0x10)
    return head + scan(nothing(side), 1, 63, 1) + refining * (count - 2) + EOI


def interleaved(side: int, count: int) -> bytes:
    """A 4:4:4 image of `count` scans; each refines the means of the blocks of all components."""
    blocks = (-(-side // 8)) ** 2
    every = struct.pack("B6B", 3, 1, 0, 2, 0, 3, 0)
    data = bytes(3 * blocks // 8 + 1)
    scan_ = [segment(0xDA, every + bytes([0, 0, how])) + data for how in (1, 0x10)]
    head = SOI + tables() + frame(0xC2, side, side, 3)
    return head + scan_[0] + scan_[1] * (count - 1) + EOI


def after_soi(data: bytes, more: bytes) -> bytes:
    return data[:2] + more + data[2:]


def cases() -> Iterator[Case]:
    plain = drawn("JPEG")
    yield Case("jpeg, no scan", SOI + tables() + frame(0xC0, 64, 64) + EOI, "invalid_image")
    yield Case("jpeg, 10 scans, largest", scans(SIDE, 10), "ok")
    yield Case("jpeg, 20 refining scans, largest", refinements(SIDE, 20), "ok")
    yield Case("jpeg, 98 refining scans, largest", refinements(SIDE, 98), "invalid_image")
    yield Case("jpeg, 5000 scans, 4 megapixels", scans(2000, 5000), "invalid_image")
    full = BODY // (len(scans(SIDE, 2)) - len(scans(SIDE, 1))) - 2000
    yield Case("jpeg, as many scans as fit, largest", scans(SIDE, full), "invalid_image")
    empty = scan(b"", 0, 63)
    again = SOI + tables() + frame(0xC0, SIDE, SIDE, 3) + empty * (BODY // len(empty) - 99) + EOI
    yield Case("jpeg, sequential, the same scan again and again", again, "invalid_image")
    early = SOI + EOI + scans(2000, 5000)
    yield Case("jpeg, 5000 scans, after an end of the image", early, "invalid_image")
    arithmetic = SOI + tables() + frame(0xC9, SIDE, SIDE, 3)
    noise = bytes((7 * i * i) % 251 for i in range(200_000))
    three = b"".join(scan(noise, 0, 63, component=1 + index) for index in range(3))
    yield Case("jpeg, arithmetic", arithmetic + three + EOI, None)
    for scans_ in (2, 50):
        refined = scan(bytes(99), 0, 0) + scan(noise[:500], 1, 63) * scans_
        data = SOI + tables() + frame(0xCA, SIDE, SIDE) + refined + EOI
        yield Case(f"jpeg, arithmetic and progressive, {scans_} scans", data, None)
    yield Case("jpeg, lossless", SOI + tables() + frame(0xC3, 640, 640) + empty + EOI, None)
    yield Case("jpeg, 12 bits", SOI + tables() + frame(0xC1, 64, 64, bits=12) + empty + EOI, None)
    yield Case(
        "jpeg, declared larger",
        SOI + tables() + frame(0xC0, 65500, 65500) + empty + EOI,
        "image_too_large",
    )
    yield Case(
        "jpeg, largest, of nothing", SOI + tables() + frame(0xC0, SIDE, SIDE, 3) + empty + EOI, None
    )
    yield Case(
        "jpeg, no height", SOI + tables() + frame(0xC0, 64, 0) + empty + EOI, "invalid_image"
    )
    yield Case("jpeg, no width", SOI + tables() + frame(0xC0, 0, 64) + empty + EOI, "invalid_image")
    yield Case("jpeg, 1 x 65500", SOI + tables() + frame(0xC0, 1, 65500) + empty + EOI, None)
    yield Case("jpeg, fill bytes", after_soi(plain, b"\xff" * (BODY - len(plain))), "invalid_image")
    yield Case(
        "jpeg, escaped junk",
        after_soi(plain, b"\xff\x00" * (BODY // 2 - len(plain))),
        "invalid_image",
    )
    comments = segment(0xFE, b"") * (BODY // 4 - len(plain))
    yield Case("jpeg, empty comments", after_soi(plain, comments), "invalid_image")
    icc = segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(65_000))
    yield Case("jpeg, huge ICC", after_soi(plain, icc * (BODY // len(icc))), "ok")
    exif = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + bytes(65_000))
    yield Case("jpeg, huge EXIF", after_soi(plain, exif * (BODY // len(exif))), "ok")
    resources = segment(0xED, b"Photoshop 3.0\0" + (b"8BIM" + bytes(8)) * 5400)
    yield Case(
        "jpeg, Photoshop resources", after_soi(plain, resources * (BODY // len(resources))), "ok"
    )
    yield Case(
        "jpeg, restarts without a restart interval",
        plain[:-2] + b"".join(bytes([0xFF, 0xD0 + i % 8]) for i in range(99_999)) + EOI,
        "ok",
    )
