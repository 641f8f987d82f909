import numpy as np
import pytest
import torch

from models.checkpoint import Checkpoint
from models.preprocessing import Preprocessing
from models.training.bundled.metrics import measure
from models.training.scenes.scene import LABELS, SIZE
from models.training.scenes.shapes import KINDS


class Oracle(torch.nn.Module):
    """Answers with what it is told, batch by batch."""

    def __init__(self, answers: torch.Tensor) -> None:
        super().__init__()
        self.answers, self.given = answers, 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.given += len(pixels)
        return self.answers[self.given - len(pixels) : self.given]


def checkpoint(task, labels, answers, size=(SIZE, SIZE), **options) -> Checkpoint:
    preprocessing = Preprocessing(size=size, **options)
    return Checkpoint(Oracle(answers), labels, preprocessing, task, name="oracle")


def test_classifier_is_held_against_the_largest_kind(scenes):
    truth = torch.tensor([scene.largest for scene in scenes[:70]])
    answers = torch.nn.functional.one_hot(truth, len(KINDS)).float()
    answers[0] = answers[0].roll(1)
    confusion = measure(checkpoint("classify", KINDS, answers), scenes[:70])
    assert confusion.total == 70
    assert confusion.accuracy == pytest.approx(69 / 70)


def test_segmenter_is_held_against_every_pixel(scenes):
    maps = torch.from_numpy(np.stack([scene.label_map for scene in scenes[:3]])).long()
    answers = torch.nn.functional.one_hot(maps, len(LABELS)).permute(0, 3, 1, 2).float()
    confusion = measure(checkpoint("segment", LABELS, answers), scenes[:3])
    assert confusion.total == 3 * SIZE * SIZE
    assert confusion.accuracy == 1


def test_logits_are_resized_to_the_scene(scenes):
    answers = torch.zeros(1, len(LABELS), 4, 4)
    answers[:, 0] = 1
    confusion = measure(checkpoint("segment", LABELS, answers, size=(32, 32)), scenes[:1])
    assert confusion.counts[:, 0].sum() == SIZE * SIZE


def test_checkpoint_with_other_labels_is_refused(scenes):
    with pytest.raises(ValueError, match="oracle answers with"):
        measure(checkpoint("classify", ("cat", "dog"), torch.zeros(1, 2)), scenes[:1])


def test_checkpoint_that_crops_is_refused(scenes):
    cropping = checkpoint("classify", KINDS, torch.zeros(1, len(KINDS)), crop_size=(32, 32))
    with pytest.raises(ValueError, match="does not stretch"):
        measure(cropping, scenes[:1])
