"""The decoder refuses an image that is larger than its estimate, and no other image."""

import logging
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import ImageTooLarge, InvalidImage, UnsupportedImageFormat
from app.imaging import decode as module
from app.imaging.cost import decode_cost
from app.imaging.decode import decode
from models.preprocessing import Preprocessing
from tests.hostile import costly, jpeg, others, png, tiff
from tests.hostile.bodies import bodies
from tests.hostile.case import drawn
from tests.hostile.mutants import mutant
from tests.hostile.seeds import seeds

SMALL = Preprocessing(size=(8, 8))
MAX_PIXELS = 50_000_000
QUICK = 3_000  # mutants
MANY = 20_000
REFUSALS = (ImageTooLarge, InvalidImage, UnsupportedImageFormat)
REPOSITORY = Path(__file__).parents[3]
LARGER = "the image is larger than its header says"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of invalid metadata


def outcome(data: bytes, reserved: int | None) -> str:
    """`ok`, or the text of the error."""
    try:
        decode(data, SMALL, max_pixels=MAX_PIXELS, reserved=reserved)
    except REFUSALS as refused:
        return str(refused)
    return "ok"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_an_image_of_more_pixels_than_are_reserved_is_refused(kind):
    data = drawn(kind)
    for reserved in (64 * 48, None):
        assert decode(data, SMALL, max_pixels=MAX_PIXELS, reserved=reserved).width == 64
    for reserved in (64 * 48 - 1, 0):
        with pytest.raises(InvalidImage, match=LARGER):
            decode(data, SMALL, max_pixels=MAX_PIXELS, reserved=reserved)


def test_the_pixels_count_before_the_scaled_decoding():
    data = drawn("JPEG", 640, 480)
    with pytest.raises(InvalidImage, match=LARGER):
        decode(data, SMALL, max_pixels=MAX_PIXELS, scaled=True, reserved=640 * 480 - 1)


def test_the_tiles_of_a_tiff_count_with_their_full_size():
    data = tiff.tiles((100, 70), (64, 64), png.zeros(64 * 64), apart=True)
    assert outcome(data, 128 * 128) == "ok"
    assert outcome(data, 128 * 128 - 1) == LARGER


def test_other_errors_come_first():
    assert "has more than" in outcome(png.black(8000, 8000), 0)
    assert "32-bit gray" in outcome(drawn("TIFF", mode="F"), 0)


def test_a_frame_of_a_gif_that_only_pillow_finds_is_refused():
    """After an extension without data, Pillow skips one more block."""
    small, large = (
        b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\0"
        for side in (9, 2000)
    )
    data = others.gif(9, 9, b"!\xf9\0", small.ljust(45, b"\0") + b"\0" + large)
    assert decode_cost(data, MAX_PIXELS).pixels == 9 * 9
    assert outcome(data, 9 * 9) == LARGER


def small_files() -> Iterator[tuple[str, bytes]]:
    yield from ((case.name, case.data) for case in costly.cases(160))
    for number, seed in enumerate(seeds()):
        yield from ((f"seed {number}, {end} bytes", seed[:end]) for end in range(0, len(seed), 9))
        yield f"seed {number}", seed
    yield from ((f"mutant {number}", mutant(number)) for number in range(QUICK))
    for folder in ("tests/samples", "docs", "bench/results"):
        yield from ((file.name, file.read_bytes()) for file in (REPOSITORY / folder).glob("*.png"))


def all_files() -> Iterator[tuple[str, bytes]]:
    for cases in (jpeg.cases(), png.cases(), tiff.cases(), others.cases()):
        yield from ((case.name, case.data) for case in cases)
    yield from ((body.name, body.content) for body in bodies())
    for number, seed in enumerate(seeds()):
        yield from ((f"seed {number}, {end} bytes", seed[:end]) for end in range(len(seed)))
    yield from ((f"mutant {number}", mutant(number)) for number in range(QUICK, MANY))


@pytest.mark.parametrize(
    "files", [small_files, pytest.param(all_files, marks=pytest.mark.slow)], ids=["small", "all"]
)
def test_the_estimate_is_never_smaller_than_an_image_that_is_opened(monkeypatch, files):
    """So the comparison refuses no file that was accepted, and hides no other error."""
    monkeypatch.setattr(module, "_photo", lambda *_: None)  # the comparison comes before it
    monkeypatch.setattr(logging.getLogger("PIL"), "level", logging.CRITICAL)
    codes, larger = Counter[str](), list[str]()
    for name, data in files():
        text = outcome(data, decode_cost(data, MAX_PIXELS).pixels)
        codes[text] += 1
        if text == LARGER:
            larger.append(name)
    assert larger == []
    assert codes["ok"] > QUICK / 4
