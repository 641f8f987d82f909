import json

import numpy as np
import pytest
from PIL import Image

from models.training import write_scenes
from models.training.scenes.scene import LABELS, draw_scene


def test_the_files_contain_the_scenes_of_the_seed(tmp_path):
    write_scenes(5, 3, tmp_path / "new" / "folder")
    truths = json.loads((tmp_path / "new/folder/truth.json").read_text())
    assert list(truths) == ["scene-0000.png", "scene-0001.png", "scene-0002.png"]
    for index, (name, truth) in enumerate(truths.items()):
        scene = draw_scene(5, index)
        with Image.open(tmp_path / "new/folder" / name) as image:
            assert np.array_equal(np.asarray(image), scene.image)
        with Image.open(tmp_path / "new/folder" / truth["mask"]) as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.asarray(mask), scene.label_map)
        assert (truth["seed"], truth["index"], truth["label"]) == (5, index, scene.kind)


def test_the_areas_are_those_of_the_mask(tmp_path):
    write_scenes(6, 1, tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())["scene-0000.png"]
    with Image.open(tmp_path / "scene-0000.mask.png") as mask:
        pixels = np.bincount(np.asarray(mask).ravel(), minlength=len(LABELS))
    assert list(truth["areas"].items()) == list(zip(LABELS, pixels.tolist(), strict=True))
    assert truth["label"] == max(LABELS[1:], key=truth["areas"].get)


def test_zero_scenes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1 is required"):
        write_scenes(5, 0, tmp_path)
