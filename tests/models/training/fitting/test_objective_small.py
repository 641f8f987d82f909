"""The options of the objective and of the initialization for small networks on scenes."""

from dataclasses import replace

import pytest
import torch

from models.registry import Task
from models.training.bundled.recipe import RECIPES, prepared
from models.training.data.curriculum import Curriculum
from models.training.data.examples import Batch
from models.training.fitting.objective import Learner, label_fractions, patch_loss
from models.training.fitting.progress import Watcher
from models.training.scenes.scene import LABELS

GRID = (8, 8)  # patches of the bundled classifier


def learner_and_batch(task: Task) -> tuple[Learner, Batch]:
    recipe = replace(RECIPES[task], batch_size=8, curriculum=Curriculum(8, 1, single_steps=0.0))
    run = prepared(task, 0, recipe, 1, Watcher())
    return run.loop.learner, next(iter(run.feed.epoch(0)))


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_all_labels_are_about_equally_likely_at_first(task):
    learner, batch = learner_and_batch(task)
    expected = torch.tensor(len(LABELS)).log()
    if task == "classify":
        expected = expected + torch.tensor(len(LABELS) - 1).log()
    assert learner(batch).item() == pytest.approx(float(expected), rel=0.2)


def test_the_patch_loss_compares_each_patch_with_the_label_map_under_it():
    _, batch = learner_and_batch("classify")
    rows, columns = GRID
    spots = batch.label_maps[:, 4::8, 4::8].long()  # (B, 16, 16), two points per side of a patch
    spots = spots.unflatten(2, (columns, 2)).unflatten(1, (rows, 2))
    spots = spots.permute(0, 1, 3, 2, 4).reshape(len(batch), rows * columns, 4)
    correct = 20 * torch.nn.functional.one_hot(spots, len(LABELS)).float().flatten(2)
    shifted = correct.roll(1, dims=1)
    assert patch_loss(correct, batch.label_maps, GRID) < 0.01
    assert patch_loss(shifted, batch.label_maps, GRID) > 0.5


def test_the_loss_of_a_patch_learner_without_label_maps_is_that_of_the_labels():
    learner, batch = learner_and_batch("classify")
    learner.eval()
    assert learner(Batch(batch.images, batch.truth)) < learner(batch) - 1


def test_initial_positions_are_most_similar_to_their_neighbors():
    learner, _ = learner_and_batch("classify")
    positions = learner.network.positions[0, 1:]
    similarity = positions @ positions.T
    assert similarity.argmax(1).equal(torch.arange(len(positions)))
    assert similarity[27, 28] > similarity[27, 30]
    assert similarity[27, 35] > similarity[27, 51]


def test_label_fractions_are_exact_at_full_size_and_sum_to_one():
    _, batch = learner_and_batch("segment")
    label_maps = batch.truth[:2]
    count = len(LABELS)
    assert torch.equal(label_fractions(label_maps, count, 1).argmax(1), label_maps.long())
    fractions = label_fractions(label_maps, count, 8)
    assert torch.allclose(fractions.sum(1), torch.ones(2, 16, 16))
    assert torch.allclose(fractions[0, 0, 0, 0], (label_maps[0, :8, :8] == 0).float().mean())
