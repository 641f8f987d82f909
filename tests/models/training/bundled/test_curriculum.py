import pytest
import torch

from models.training.bundled.batches import draw_pool
from models.training.bundled.curriculum import Curriculum, teach, weight_groups
from models.training.bundled.objectives import ClassifierLearner, SegmenterLearner

TINY = Curriculum(scenes=32, steps=24, batch_size=8, learning_rate=2e-3, alone=0.2, averaging=0.9)


def run(learner, side: int, seed: int = 0) -> tuple[torch.nn.Module, list[float]]:
    losses = []
    network = teach(
        learner,
        draw_pool(1, TINY.scenes, side),
        TINY,
        torch.Generator().manual_seed(seed),
        lambda step, loss: losses.append(loss),
    )
    return network, losses


@pytest.mark.parametrize(("make", "side"), [(ClassifierLearner, 48), (SegmenterLearner, 128)])
def test_a_few_steps_lower_the_loss(make, side):
    torch.manual_seed(0)
    network, losses = run(make(), side)
    assert len(losses) == TINY.steps
    assert sum(losses[-4:]) / 4 < losses[0] - 0.2
    assert not network.training


def test_the_same_seed_trains_the_same_network():
    trained = []
    for _ in range(2):
        torch.manual_seed(0)
        trained.append(run(ClassifierLearner(), 48)[0])
    one, same = (network.state_dict() for network in trained)
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_every_parameter_is_in_one_group_and_only_matrices_decay():
    learner = ClassifierLearner()
    decaying, others = (group["params"] for group in weight_groups(learner, TINY))
    assert len(decaying) + len(others) == len(list(learner.parameters()))
    assert all(parameter.ndim > 1 for parameter in decaying)
    assert any(parameter is learner.network.positions for parameter in others)
