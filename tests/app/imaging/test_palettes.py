"""Colors of classes: the published ones of datasets, and generated ones."""

import numpy as np
import pytest

from app.imaging.dataset_colors import ADE20K, CITYSCAPES, PASCAL_VOC
from app.imaging.distinct_colors import oklab
from app.imaging.palettes import (
    FIRST_COLORS,
    dataset_colors,
    hex_color,
    is_background,
    palette,
)


def labels_of(table: str) -> tuple[str, ...]:
    return tuple(entry.split(":")[0].replace("_", " ") for entry in table.split())


ADE_LABELS, CITY_LABELS, VOC_LABELS = map(labels_of, (ADE20K, CITYSCAPES, PASCAL_VOC))


def names(count: int, first: str = "background") -> tuple[str, ...]:
    return (first, *(f"label {index}" for index in range(1, count)))


def smallest_distance(colors: np.ndarray) -> float:
    points = oklab(colors)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    return distances[~np.eye(len(points), dtype=bool)].min()


def test_pascal_voc_has_the_colors_of_its_development_kit():
    colors = palette(VOC_LABELS)
    for index, color in enumerate(colors.tolist()):  # the kit's definition: bits in turn
        bits = [[index >> (3 * place + channel) & 1 for place in range(8)] for channel in range(3)]
        assert color == [sum(bit << (7 - place) for place, bit in enumerate(b)) for b in bits]
    assert len(colors) == 21


def test_ade20k_has_its_published_colors():
    colors = dict(zip(ADE_LABELS, palette(ADE_LABELS).tolist(), strict=True))
    assert len(colors) == 150
    assert colors["wall"] == [120, 120, 120]
    assert colors["sky"] == [6, 230, 230]
    assert colors["person"] == [150, 5, 61]
    assert colors["television receiver"] == [0, 255, 194]
    assert colors["flag"] == [92, 0, 255]
    assert palette(ADE_LABELS).sum() == 58_427  # as in color150.mat


def test_cityscapes_has_its_published_colors():
    colors = dict(zip(CITY_LABELS, palette(CITY_LABELS).tolist(), strict=True))
    assert len(colors) == 19
    assert colors["road"] == [128, 64, 128]
    assert colors["traffic light"] == [250, 170, 30]
    assert colors["bicycle"] == [119, 11, 32]


@pytest.mark.parametrize(
    "changed",
    [
        tuple(label.upper().replace(" ", "_") for label in ADE_LABELS),
        tuple(f"{label}, another word" for label in ADE_LABELS),
        tuple(f"{label} ;another;word" for label in ADE_LABELS),
        (*ADE_LABELS[:135], *(f"other {index}" for index in range(15))),
    ],
)
def test_a_dataset_is_recognized_by_its_labels_in_other_spellings(changed):
    np.testing.assert_array_equal(palette(changed), palette(ADE_LABELS))


@pytest.mark.parametrize(
    "labels",
    [
        ADE_LABELS[::-1],
        ADE_LABELS[:149],
        (*ADE_LABELS, "other"),
        (*ADE_LABELS[:134], *(f"other {index}" for index in range(16))),
        names(150),
        names(21),
        names(19),
        ("LABEL_0", "LABEL_1"),
    ],
)
def test_other_labels_are_no_dataset(labels):
    assert dataset_colors(labels) is None
    assert len(palette(labels)) == len(labels)


def test_a_background_is_black_and_no_other_class_is():
    with_background, without = palette(names(300)), palette(names(300, "wall"))
    assert with_background[0].tolist() == [0, 0, 0]
    assert without[0].tolist() == list(FIRST_COLORS[0])
    assert with_background[1:].any(axis=1).all()
    assert without.any(axis=1).all()


@pytest.mark.parametrize(
    ("count", "distance"), [(8, 0.15), (20, 0.14), (50, 0.09), (150, 0.055), (1000, 0.02)]
)
def test_generated_colors_are_easy_to_tell_apart(count, distance):
    assert smallest_distance(palette(names(count))) > distance


def test_more_classes_keep_the_first_colors():
    np.testing.assert_array_equal(palette(names(40))[:12], palette(names(12)))


def test_a_palette_is_made_once_and_cannot_change():
    assert palette(names(30)) is palette(names(30))
    with pytest.raises(ValueError, match="read-only"):
        palette(names(30))[0] = 1


@pytest.mark.parametrize(
    "label", ["background", "Background", "_background_", "BG", "unlabeled", "void", "None"]
)
def test_a_background_is_recognized_by_its_label(label):
    assert is_background(label)


@pytest.mark.parametrize("label", ["wall", "LABEL_0", "", "0", "backgrounds", "voids", "other"])
def test_other_labels_are_no_background(label):
    assert not is_background(label)


def test_a_color_is_written_as_html_does():
    assert hex_color(np.uint8([255, 8, 0])) == "#ff0800"
