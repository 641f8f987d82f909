"""Hostile AVIFs and HEICs: refused before their decoder starts, or decoded in bounded memory."""

import itertools
import random
import time
from io import BytesIO

import pytest
from PIL import Image

from app.core.errors import ServiceError
from app.imaging.av1_structure import av1_size
from app.imaging.cost import HEIF_COPIES, UNKNOWN, decode_cost
from app.imaging.decode import PLUGINS, decode
from app.imaging.heif_plugins import enable_formats
from app.imaging.heif_structure import check_heif, heif_size
from app.imaging.hevc_structure import hevc_size
from models.preprocessing import Preprocessing
from tests.hostile import costly, heif
from tests.hostile.mutants import CHANGES

MAX_PIXELS = 50_000_000
SMALL = Preprocessing(size=(8, 8))
FORMATS = frozenset({"AVIF", "HEIC"})
MUTANTS = 400

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of invalid metadata


@pytest.fixture(scope="module", autouse=True)
def enabled():
    enable_formats(("avif", "heic"))


def outcome(data: bytes) -> str:
    try:
        reserved = decode_cost(data, MAX_PIXELS).pixels
        decode(data, SMALL, max_pixels=MAX_PIXELS, formats=FORMATS, reserved=reserved)
    except ServiceError as refused:
        return refused.code
    return "ok"


@pytest.mark.parametrize("case", list(heif.cases()), ids=lambda case: case.name)
def test_a_hostile_file_gets_its_code_in_time(case):
    began = time.process_time()
    assert outcome(case.data) == case.code
    assert time.process_time() - began < 1


@pytest.mark.parametrize("case", [*heif.larger(), *heif.many()], ids=lambda case: case.name)
def test_a_hostile_file_is_refused_before_its_decoder_starts(case, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *args, **options: pytest.fail("it was opened"))
    assert outcome(case.data) == case.code


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_the_size_in_the_data_is_the_size_of_the_image(kind):
    for size in ((64, 64), (256, 256), (200, 72)):
        contents, config = heif.coded(kind, *size)
        width, height = av1_size(contents) if kind == "AVIF" else hevc_size(config[8:], contents)
        claimed = heif_size(heif.plain(kind, *size))
        for coded, own, image in zip((width, height), claimed, size, strict=True):
            assert image <= own <= coded < image + 64  # an HEIC may claim the padding and cut it
        cost = decode_cost(heif.plain(kind, *size), MAX_PIXELS)
        assert cost.pixels == HEIF_COPIES * claimed[0] * claimed[1]


def seconds(data: bytes) -> float:
    """CPU seconds of decoding, the shortest of several."""
    times = []
    for _ in range(3):
        start = time.process_time()
        decode(data, SMALL, max_pixels=MAX_PIXELS, formats=FORMATS | {"JPEG"}, keep_rgb=True)
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
@pytest.mark.parametrize("noise", [12, 80])
def test_the_work_is_not_underestimated(kind, noise):
    usual = costly.saved(costly.noise(1000, 12), "JPEG", quality=85)
    image = costly.noise(500, noise)
    file = BytesIO()
    image.save(file, PLUGINS.get(kind, kind), quality=95)
    unit = seconds(usual) / decode_cost(usual, MAX_PIXELS).work
    assert seconds(file.getvalue()) < 3 * unit * decode_cost(file.getvalue(), MAX_PIXELS).work


def test_frames_of_the_sequences_size_are_accepted():
    assert av1_size(heif.av1_frame(own_size=False)) == (64, 64)


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_a_grid_is_accepted(kind):
    data = heif.grid(kind, 3, 4)
    check_heif(kind, data, MAX_PIXELS)
    assert heif_size(data) == (256, 192)
    assert outcome(data) == "ok"


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_truncated_files_are_refused(kind):
    whole = heif.plain(kind)
    for end in range(0, len(whole) * 9 // 10, max(1, len(whole) // 60)):
        assert outcome(whole[:end]) in ("invalid_image", "unsupported_image_format")


def seeds() -> list[bytes]:
    image = Image.open(BytesIO(heif.plain("AVIF")))
    rgba = BytesIO()
    image.convert("RGBA").save(rgba, "AVIF")
    turned = Image.Exif()
    turned[0x0112] = 6
    oriented = BytesIO()
    image.save(oriented, "AVIF", exif=turned)
    plain = [heif.plain("AVIF"), heif.plain("HEIC"), rgba.getvalue(), oriented.getvalue()]
    return [
        *plain,
        heif.heic(image.convert("RGBA")),
        heif.grid("HEIC", 2, 2),
        heif.grid("AVIF", 2, 2),
    ]


def test_mutants_are_decoded_or_refused():
    files, codes = seeds(), set()
    for number in range(MUTANTS):
        rng = random.Random(number)  # noqa: S311  # no secret: it must be repeatable
        data = bytearray(files[number % len(files)])
        for _ in range(rng.choice((1, 1, 2, 3))):
            rng.choice(CHANGES)(data, rng)
        codes.add(outcome(bytes(data)))
        assert decode_cost(bytes(data), MAX_PIXELS).work > 0
    assert codes <= {"ok", "invalid_image", "image_too_large", "unsupported_image_format"}
    assert {"ok", "invalid_image"} <= codes


NO_IMAGE = [bytes(40), b"\0\0\0\x1cftypavif", heif.box(b"ftyp", b"avif", bytes(4)),
            heif.container("AVIF", {1: (b"av01", b"")}, [], {})]  # fmt: skip


@pytest.mark.parametrize("data", NO_IMAGE, ids=itertools.count())
def test_a_file_without_an_image_has_a_small_cost(data):
    assert decode_cost(data, MAX_PIXELS) == UNKNOWN
