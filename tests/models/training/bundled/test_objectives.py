import pytest
import torch

from models.training.bundled.batches import draw_pool
from models.training.bundled.objectives import ClassifierLearner, label_shares, learner_for
from models.training.scenes.scene import LABELS, SIZE


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_untrained_learner_finds_every_answer_about_as_likely(task):
    torch.manual_seed(0)
    learner = learner_for(task)
    side, _ = learner.preprocessing.input_size
    loss = learner(draw_pool(0, 8, side)).item()
    expected = torch.tensor(len(LABELS)).log()
    if task == "classify":
        expected = expected + torch.tensor(len(learner.labels)).log()
    assert loss == pytest.approx(float(expected), rel=0.2)


def test_patch_head_of_the_classifier_is_asked_about_the_patch_it_sits_on():
    """Where the answers are the truth at each spot the loss is low; a patch off it is not."""
    learner = ClassifierLearner()
    batch = draw_pool(0, 4, 48)
    side = learner.network.config.grid[0]
    spots = batch.label_maps[:, 4::8, 4::8].long().unflatten(2, (side, 2)).unflatten(1, (side, 2))
    spots = spots.permute(0, 1, 3, 2, 4).reshape(len(batch), side * side, 4)
    truth = 20 * torch.nn.functional.one_hot(spots, len(LABELS)).float().flatten(2)

    def loss_for(answer: torch.Tensor) -> float:
        learner.patch_head.forward = lambda tokens: answer
        return learner(batch).item()

    assert loss_for(truth) < loss_for(truth.roll(1, dims=1)) - 0.5


def test_classifier_begins_with_positions_that_are_most_like_their_neighbours():
    positions = ClassifierLearner().network.positions[0, 1:]
    likeness = positions @ positions.T
    assert likeness.argmax(1).equal(torch.arange(len(positions)))
    assert likeness[27, 28] > likeness[27, 30]
    assert likeness[27, 35] > likeness[27, 51]


def test_shares_are_exact_at_full_size_and_sum_to_one_in_cells():
    label_maps = draw_pool(0, 2, 64).label_maps
    assert torch.equal(label_shares(label_maps, SIZE).argmax(1), label_maps.long())
    shares = label_shares(label_maps, 16)
    assert torch.allclose(shares.sum(1), torch.ones(2, 16, 16))
    assert torch.allclose(shares[0, 0, 0, 0], (label_maps[0, :8, :8] == 0).float().mean())
