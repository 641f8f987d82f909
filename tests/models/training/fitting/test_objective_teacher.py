from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from models import checkpoint
from models.preprocessing import Preprocessing
from models.training.fitting.objective import Teacher
from models.training.scenes.scene import draw_scene
from models.training.scenes.shapes import KINDS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def loaded():
    return checkpoint.load(checkpoint.bundled("classify"))


def test_a_teacher_predicts_images_of_any_size(loaded):
    scenes = [draw_scene(41, index) for index in range(20)]
    teacher = Teacher(loaded, KINDS, CPU)
    for side in (48, 128):
        images = [Image.fromarray(scene.image).resize((side, side)) for scene in scenes]
        predicted = teacher(torch.from_numpy(np.stack([np.asarray(image) for image in images])))
        correct = [
            int(kind) == scene.largest for kind, scene in zip(predicted, scenes, strict=True)
        ]
        assert sum(correct) >= 18


def test_an_unsuitable_teacher_is_refused(loaded):
    with pytest.raises(ValueError, match="other labels"):
        Teacher(loaded, ("a", "b"), CPU)
    varying = replace(loaded, preprocessing=Preprocessing(size=None, shortest_edge=48))
    with pytest.raises(ValueError, match="cannot teach"):
        Teacher(varying, KINDS, CPU)
