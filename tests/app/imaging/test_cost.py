"""The estimated cost of decoding an image: exact pixels, and work in the right order."""

import itertools
import struct
import time

import pytest

from app.imaging.cost import FIXED, SAMPLE_BYTES, UNKNOWN, USUAL_SCANS, DecodeCost, decode_cost
from app.imaging.decode import decode
from models.preprocessing import Preprocessing
from tests.hostile import costly, jpeg, others, png, tiff
from tests.hostile.case import drawn, entries
from tests.hostile.mutants import mutant
from tests.hostile.seeds import VARIANTS, picture, seeds

MUTANTS = 2000
LARGEST = 50_000_000  # pixels
CROP = Preprocessing(size=(224, 224))
UNDERESTIMATED = 3  # times, at most


def photo(megapixels: float, **options: object) -> bytes:
    """A JPEG like a photograph: a gradient with some noise."""
    side = int((megapixels * 1e6) ** 0.5)
    return costly.saved(costly.noise(side, 12), "JPEG", quality=85, **options)


def cost_of(data: bytes) -> DecodeCost:
    return decode_cost(data, LARGEST)


def work_per_pixel(data: bytes) -> float:
    cost = cost_of(data)
    return (cost.work - FIXED) / cost.pixels


@pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=str)
def test_the_pixels_of_every_format_are_exact(kind, options):
    cost = cost_of(picture(kind, **options))
    assert cost.pixels == 24 * 20
    assert FIXED < cost.work < 2 * FIXED


def test_a_pixel_of_an_ordinary_jpeg_is_the_unit():
    assert 0.8 < work_per_pixel(photo(0.3)) < 1.25
    assert 0.8 < work_per_pixel(photo(2)) < 1.25


@pytest.mark.parametrize(
    ("cheap", "expensive"),
    [
        (photo(0.3), photo(0.3, subsampling=0)),
        (photo(0.3), photo(0.3, progressive=True)),
        (png.black(90, 90), png.black(90, 90, bits=16, color=6)),
        (png.black(90, 90, color=0), png.black(90, 90)),
        (png.black(90, 90), png.black(90, 90, interlace=1)),
        (tiff.gray(90, 90, tiff.RAW, b""), tiff.gray(90, 90, tiff.DEFLATE, b"")),
        (drawn("BMP"), drawn("PNG")),
        (jpeg.scans(800, 10), jpeg.scans(800, 90)),
        (jpeg.scans(800, 90), jpeg.scans(2000, 90)),
        (tiff.tiles((64, 64), (32, 32), b""), tiff.tiles((64, 64), (16, 16), b"")),
    ],
    ids=itertools.count(),
)
def test_the_more_expensive_file_has_more_work(cheap, expensive):
    assert cost_of(cheap).work < cost_of(expensive).work


def test_refining_scans_count_although_they_are_short():
    few, many = (cost_of(jpeg.refinements(7070, count)) for count in (1, 98))
    assert few.pixels == many.pixels == 7070**2
    assert many.work - few.work > 80 * 0.08 * 7070**2


def scans_of(data: bytes) -> float:
    """The number of scans that the cost of a progressive JPEG of 800 x 800 pixels implies."""
    without = FIXED + 3 * len(data) + 0.77 * 800**2
    return (cost_of(data).work - without) / (0.08 * 800**2)


def test_the_scans_of_a_long_jpeg_are_estimated_from_both_ends():
    """Counting all of them would block the event loop."""
    short, many = jpeg.scans(800, 9), jpeg.scans(800, 99)
    assert scans_of(short) == pytest.approx(10)
    start = short.index(b"\xff\xda") + 10
    long = short[:start] + bytes(4 * SAMPLE_BYTES) + short[start:]
    assert scans_of(long) == pytest.approx(USUAL_SCANS * len(long) / (2 * SAMPLE_BYTES), rel=0.2)
    usual = short[:start] + bytes(4 * SAMPLE_BYTES) + short[start:] + bytes(SAMPLE_BYTES)
    assert scans_of(usual) == pytest.approx(USUAL_SCANS)
    assert scans_of(many + bytes(4 * SAMPLE_BYTES)) == pytest.approx(100)


def test_an_image_that_is_too_large_costs_a_refusal():
    large = png.black(7000, 7000, bits=8, color=2)
    assert decode_cost(large, max_pixels=49_000_000).pixels == 49_000_000
    assert decode_cost(large, max_pixels=24_000_000) == UNKNOWN


def test_photoshop_resources_count():
    resources = jpeg.segment(0xED, b"Photoshop 3.0\0" + bytes(60_000))
    plain = drawn("JPEG")
    assert cost_of(jpeg.after_soi(plain, resources * 9)).work > cost_of(plain).work + 5e6


def test_the_tiles_of_a_tiff_count_with_their_full_size():
    assert cost_of(tiff.tiles((100, 70), (64, 64), b"")).pixels == 128 * 128


def test_the_strips_of_a_raw_tiff_count():
    strips = {tiff.OFFSETS: [8] * 900, tiff.ROWS: 1}
    one, many = (tiff.gray(1, 900, tiff.RAW, b"", tags=tags) for tags in ({}, strips))
    assert cost_of(many).work > cost_of(one).work + 900_000


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_a_tiff_may_have_any_byte_order_and_type(order, kind):
    number = order + ("HHIHxx" if kind == 3 else "HHII")
    tags = [(256, 300), (257, 200), (258, 16)]
    listed = b"".join(struct.pack(number, tag, kind, 1, value) for tag, value in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    assert cost_of(head + listed + bytes(4)).pixels == 60_000


def test_a_big_tiff():
    assert cost_of(drawn("TIFF", big_tiff=True)).pixels == 64 * 48


def test_a_gif_counts_with_a_frame_outside_its_screen():
    frame = b"," + struct.pack("<HHHHB", 100, 200, 5, 5, 0) + b"\x02\x02\x4c\x01\0"
    assert cost_of(others.gif(9, 9, b"!\xfe\x01 \0", frame)).pixels == 105 * 205


def test_a_webp_counts_with_its_canvas():
    data = others.riff(others.canvas(700, 500), (b"ANIM", bytes(6)), others.webp_frame())
    assert cost_of(data).pixels == 350_000


def test_a_bmp_may_be_upside_down_or_old():
    assert cost_of(others.bmp(70, -50, b"")).pixels == 3500
    old = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 70, 50, 1, 8)
    assert cost_of(old).pixels == 3500


NO_HEADER = [
    *(b"", b"\xff", b"hello", b"\xff\xd8", b"\x89P", b"II", b"BM", b"GI", b"RI"),
    b"MM\0+" + b"\xff" * 40,
    jpeg.SOI + jpeg.EOI,
    jpeg.SOI + b"\xff" * 9999,
    entries(900_000, big=True),
]


@pytest.mark.parametrize("data", NO_HEADER, ids=itertools.count())
def test_a_file_without_a_header_has_a_small_cost(data):
    assert cost_of(data) == UNKNOWN


def test_truncated_and_mutated_files_have_a_cost():
    for seed in seeds():
        for length in range(0, len(seed), 7):
            assert cost_of(seed[:length]).work > 0
    assert all(cost_of(mutant(number)).work > 0 for number in range(MUTANTS))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, which the service ignores
def test_the_costliest_files_are_accepted_and_their_pixels_known():
    for case in costly.cases(160):
        assert decode(case.data, CROP, max_pixels=LARGEST).width == 160, case.name
        assert cost_of(case.data).pixels == 160 * 160, case.name


def seconds_per_work(data: bytes) -> float:
    """CPU seconds of decoding, the shortest of several, for each unit of estimated work."""
    times = []
    for _ in range(5):
        start = time.process_time()
        decode(data, CROP, max_pixels=LARGEST, keep_rgb=True)
        times.append(time.process_time() - start)
    return min(times) / cost_of(data).work


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format_", ["jpegs", "pngs", "gifs", "webps", "bmps", "tiffs"])
def test_the_costliest_files_are_not_underestimated(format_):
    usual = seconds_per_work(photo(2))
    ratios = {
        case.name: seconds_per_work(case.data) / usual for case in getattr(costly, format_)(1500)
    }
    assert {name: ratio for name, ratio in ratios.items() if ratio > UNDERESTIMATED} == {}


def test_absurd_numbers_in_a_header_cost_no_more_than_the_costliest_files():
    for number in range(MUTANTS):
        cost = cost_of(mutant(number))
        assert cost.work <= 60 * cost.pixels + 2e8
