import numpy as np
import pytest

from models.training.confusion import Confusion
from models.training.scenes.plots import PAPER, RIGHT, ScenePrediction, confusion_plot, sheet
from models.training.scenes.scene import SIZE, Scene, draw_scene
from models.training.scenes.shapes import KINDS


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(31, index) for index in range(5)]


def colors(image) -> set[tuple[int, int, int]]:
    return {color for _, color in image.getcolors(1 << 24)}


def test_full_cells_are_colored_and_empty_cells_are_white():
    perfect = Confusion(KINDS, np.diag([10] * len(KINDS)))
    image = confusion_plot(perfect)
    found = colors(image)
    assert RIGHT in found
    assert PAPER in found


def test_a_single_error_is_visible():
    counts = np.diag([100] * len(KINDS))
    before = confusion_plot(Confusion(KINDS, counts.copy()))
    counts[0, 1] = 1
    after = confusion_plot(Confusion(KINDS, counts))
    assert colors(after) - colors(before)


def test_the_sheet_shows_the_image_of_each_scene_once(scenes):
    predictions = [
        ScenePrediction(scene, scene.largest, 0 * scene.label_map) for scene in scenes[:4]
    ]
    image = sheet(predictions, columns=2)
    pixels = np.asarray(image)
    scene = scenes[0].image
    positions = [
        (y, x)
        for y, x in zip(*np.where((pixels == scene[0, 0]).all(-1)), strict=True)
        if y + SIZE <= len(pixels)
        and x + SIZE <= pixels.shape[1]
        and np.array_equal(pixels[y : y + SIZE, x : x + SIZE], scene)
    ]
    assert len(positions) == 1


def test_the_sheet_grows_by_rows(scenes):
    predictions = [ScenePrediction(scene, scene.largest, scene.label_map) for scene in scenes[:5]]
    assert sheet(predictions, columns=2).height > sheet(predictions[:4], columns=2).height
    assert sheet(predictions[:3], columns=2).height == sheet(predictions[:4], columns=2).height
