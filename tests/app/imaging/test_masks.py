"""Label maps as PNG files, and their statistics compared with pycocotools."""

import json
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from app.imaging import masks
from app.imaging.overlay import Overlay

LABELS = ("background", "Katze", "été", "猫")
COLOURS = [(0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115)]
rng = np.random.default_rng(5)


def names(count: int) -> tuple[str, ...]:
    return tuple(f"label {index}" for index in range(count))


def noise(count: int, size: tuple[int, int] = (23, 31)) -> np.ndarray:
    return rng.integers(0, count, size).astype(np.uint8 if count <= 256 else np.uint16)


def opened(file: bytes) -> Image.Image:
    image = Image.open(BytesIO(file))
    assert image.format == "PNG"
    image.load()
    return image


def bit_depth_and_colour_type(file: bytes) -> tuple[int, int]:
    return file[24], file[25]


def structured() -> dict[str, np.ndarray]:
    """Label maps with difficult runs: borders, corners, stripes, single pixels, single rows."""
    rows, columns = np.mgrid[0:20, 0:30]
    corners = np.zeros((20, 30), np.uint8)
    corners[0, 0] = corners[-1, -1] = 1
    corners[0, -1] = corners[-1, 0] = 2
    return {
        "disc": ((rows - 9) ** 2 + (columns - 14) ** 2 < 50).astype(np.uint8),
        "rows": (rows % 3).astype(np.uint8),
        "columns": (columns % 4).astype(np.uint8),
        "checks": ((rows + columns) % 2).astype(np.uint8),
        "quarters": ((rows > 9) * 2 + (columns > 14)).astype(np.uint8),
        "corners": corners,
        "a row": rng.integers(0, 3, (1, 50)).astype(np.uint8),
        "a column": rng.integers(0, 3, (50, 1)).astype(np.uint8),
        "a pixel": np.array([[2]], np.uint8),
        "one class": np.full((20, 30), 3, np.uint8),
        "long runs": np.repeat(np.arange(4, dtype=np.uint8), 40_000).reshape(400, 400),
        "noise": noise(4),
    }


MAPS = structured()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 16, 17, 150, 256])
def test_a_mask_is_an_8_bit_palette_image_whose_values_are_the_classes(count):
    label_map = noise(count)
    file = masks.render(label_map, names(count), "mask")
    assert bit_depth_and_colour_type(file) == (8, 3)
    image = opened(file)
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), label_map)


def test_the_palette_makes_a_mask_visible():
    label_map = noise(4)
    colours = np.asarray(opened(masks.render(label_map, LABELS, "mask")).convert("RGB"))
    np.testing.assert_array_equal(colours, np.array(COLOURS)[label_map])


@pytest.mark.parametrize("count", [257, 1000])
def test_above_256_labels_a_mask_is_16_bit_grey(count):
    label_map = noise(count)
    label_map[0, 0] = count - 1
    file = masks.render(label_map, names(count), "mask")
    assert bit_depth_and_colour_type(file) == (16, 0)
    np.testing.assert_array_equal(np.asarray(opened(file)), label_map)


@pytest.mark.parametrize("style", masks.RENDERS)
def test_every_png_has_the_maps_size_and_labels(style):
    image = opened(masks.render(noise(4), LABELS, style, Image.new("RGB", (31, 23))))
    assert image.size == (31, 23)
    assert json.loads(image.text["labels"]) == {str(i): label for i, label in enumerate(LABELS)}


def test_color_draws_each_class_in_its_colour():
    label_map = noise(4)
    image = opened(masks.render(label_map, LABELS, "color"))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), np.array(COLOURS)[label_map])


def test_above_256_labels_every_class_has_its_own_colour():
    label_map = np.arange(1000, dtype=np.uint16).reshape(25, 40)
    pixels = np.asarray(opened(masks.render(label_map, names(1000), "color")))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1000


def test_an_overlay_is_drawn_as_asked():
    label_map = noise(4)
    pixels = rng.integers(0, 256, (23, 31, 3), dtype=np.uint8)
    overlay = Overlay(1.0, 0)
    image = opened(masks.render(label_map, LABELS, "overlay", Image.fromarray(pixels), overlay))
    assert image.mode == "RGB"
    expected = np.where(label_map[..., None] == 0, pixels, np.array(COLOURS)[label_map])
    np.testing.assert_array_equal(np.asarray(image), expected)


def test_an_overlay_needs_the_photograph():
    with pytest.raises(ValueError, match="photograph"):
        masks.render(noise(4), LABELS, "overlay")


@pytest.mark.parametrize("style", ["mask", "confidence"])
def test_the_confidence_is_additional_work(style):
    plain = masks.work_per_pixel(style, 150)
    assert plain < masks.work_per_pixel(style, 150, confidence=True) < 2 * plain


@pytest.mark.parametrize("name", MAPS)
def test_statistics_are_those_of_pycocotools(name):
    label_map = MAPS[name]
    found = masks.statistics(label_map, LABELS)
    assert {entry["index"] for entry in found} == set(np.unique(label_map).tolist())
    for entry in found:
        mask = np.asfortranarray(label_map == entry["index"], dtype=np.uint8)
        theirs = coco.encode(mask)
        assert entry["label"] == LABELS[entry["index"]]
        assert entry["color"] == "#" + bytes(COLOURS[entry["index"]]).hex()
        assert entry["area"] == coco.area(theirs)
        assert entry["fraction"] == entry["area"] / label_map.size
        assert list(entry["bbox"]) == coco.toBbox(theirs).tolist()
        assert list(entry["rle"]["size"]) == theirs["size"]
        assert entry["rle"]["counts"] == theirs["counts"].decode()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_decode_to_the_mask_they_were_made_of(seed):
    seeded = np.random.default_rng(seed)
    height, width, count = seeded.integers(1, 60, 3)
    label_map = seeded.integers(0, count, (height, width)).astype(np.uint8)
    for found in masks.statistics(label_map, names(60)):
        size, counts = found["rle"]["size"], found["rle"]["counts"]
        mask = coco.decode({"size": list(size), "counts": counts.encode()})
        np.testing.assert_array_equal(mask, label_map == found["index"])


def test_statistics_are_ordered_by_area_then_by_index():
    label_map = np.array([[3, 3, 3, 1], [0, 0, 1, 2]], np.uint8)
    assert [entry["index"] for entry in masks.statistics(label_map, LABELS)] == [3, 0, 1, 2]


def test_statistics_count_every_pixel_once():
    found = masks.statistics(noise(300, (64, 64)), names(300))
    assert sum(entry["area"] for entry in found) == 64 * 64
    assert sum(entry["fraction"] for entry in found) == pytest.approx(1)


def test_statistics_use_few_bytes_per_pixel():
    label_map = np.zeros((1000, 1000), np.uint8)
    label_map[200:700, 300:900] = 3
    tracemalloc.start()
    masks.statistics(label_map, LABELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * label_map.size


def test_statistics_can_be_written_as_json():
    json.dumps(masks.statistics(noise(4), LABELS))
