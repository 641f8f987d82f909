"""The quality of a checkpoint: its answers held against the truth of scenes it has not seen.

Does not know how a checkpoint came about, nor how the figures are shown.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.checkpoint import Checkpoint
from models.label_map import label_map
from models.preprocessing import normalize
from models.training.confusion import Confusion
from models.training.scenes.scene import LABELS, Scene
from models.training.scenes.shapes import KINDS

BATCH = 50


def measure(checkpoint: Checkpoint, scenes: Sequence[Scene]) -> Confusion:
    """Count the answers to all scenes: by scene for a classifier, by pixel for a segmenter.

    A classifier's truth is the kind of the largest shape; a segmenter's is the label map, against
    its logits resized to the scene, as the service does. ValueError for other labels than ours.
    """
    expected = KINDS if checkpoint.task == "classify" else LABELS
    if checkpoint.labels != expected:
        raise ValueError(f"{checkpoint.name} answers with {checkpoint.labels}, not {expected}")
    total = Confusion(expected, np.zeros((len(expected), len(expected)), np.int64))
    for start in range(0, len(scenes), BATCH):
        some = scenes[start : start + BATCH]
        for scene, answer in zip(some, answers(checkpoint, some), strict=True):
            truth = scene.label_map if checkpoint.task == "segment" else np.array([scene.largest])
            total += Confusion.of(expected, truth, answer)
    return total


@torch.no_grad()
def answers(checkpoint: Checkpoint, scenes: Sequence[Scene]) -> Iterator[NDArray[np.integer]]:
    """For each scene the index of its class, as an array of one, or its label map."""
    pixels = torch.from_numpy(np.stack([resized(scene, checkpoint) for scene in scenes]))
    logits = checkpoint.network(normalize(pixels, checkpoint.preprocessing))
    for scene, one in zip(scenes, logits, strict=True):
        if checkpoint.task == "classify":
            yield one.argmax(0, keepdim=True).numpy()
        else:
            height, width = scene.label_map.shape
            yield label_map(one, (height, width)).numpy()


def resized(scene: Scene, checkpoint: Checkpoint) -> NDArray[np.uint8]:
    """The scene at the size the checkpoint asks for; ValueError when it asks for a crop."""
    preprocessing = checkpoint.preprocessing
    if preprocessing.crop_size is not None or preprocessing.size is None:
        raise ValueError(f"{checkpoint.name} does not stretch an image to one size")
    height, width = preprocessing.size
    image = Image.fromarray(scene.image)
    return np.asarray(image.resize((width, height), Image.Resampling(preprocessing.resample)))
