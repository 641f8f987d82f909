import math

import pytest
import torch
from torch import Tensor, nn

from models.training.step import Loop, decaying, pace


class Guess(nn.Module):
    """Learns to say what it hears, through a layer that forgets at random."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 3))

    def forward(self, batch: Tensor) -> Tensor:
        return (self.network(batch) - batch).square().mean()


def loop(averaging: float = 0.0, largest_gradient: float = math.inf) -> Loop[Tensor]:
    torch.manual_seed(0)
    learner = Guess()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    return Loop(learner, optimizer, averaging=averaging, largest_gradient=largest_gradient)


def batches() -> Tensor:
    return torch.randn(40, 5, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("averaging", [0.0, 0.8])
def test_steps_lower_the_loss(averaging):
    learning = loop(averaging)
    losses = [learning.step(batch) for batch in batches()]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert not learning.result().training


def test_result_is_the_average_where_one_is_kept():
    learning = loop(averaging=0.5)
    weights = []
    for batch in batches()[:2]:
        learning.step(batch)
        weights.append(learning.learner.network[0].weight.detach().clone())
    assert torch.allclose(learning.result()[0].weight, (weights[0] + weights[1]) / 2)


def test_result_without_an_average_is_the_network_itself():
    learning = loop()
    assert learning.result() is learning.learner.network


@pytest.mark.parametrize("averaging", [0.0, 0.8])
def test_a_restored_loop_goes_on_as_if_nothing_had_been(averaging):
    whole, first, second = loop(averaging), loop(averaging), loop(averaging)
    torch.manual_seed(7)
    losses = [whole.step(batch) for batch in batches()]
    torch.manual_seed(7)
    for batch in batches()[:11]:
        first.step(batch)
    state = first.state()
    torch.manual_seed(8)
    second.restore(state)
    assert [second.step(batch) for batch in batches()[11:]] == losses[11:]
    one, same = whole.result().state_dict(), second.result().state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_a_pace_of_nothing_leaves_the_weights_alone():
    learning = loop()
    before = learning.learner.network[0].weight.detach().clone()
    learning.step(batches()[0], pace=0.0)
    assert torch.equal(before, learning.learner.network[0].weight)


def test_long_gradients_are_shortened():
    learning = loop(largest_gradient=1e-3)
    learning.step(1000 * batches()[0])
    norms = [parameter.grad.norm() for parameter in learning.learner.parameters()]
    assert torch.stack(norms).norm() == pytest.approx(1e-3, rel=1e-3)


def test_only_matrices_decay():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Conv2d(3, 4, 1))
    assert decaying(module) == {module[0].weight, module[2].weight}


def test_pace_rises_to_one_and_falls_to_nearly_nothing():
    assert pace(0, 0.1) == 0
    assert pace(0.05, 0.1) == pytest.approx(0.5)
    assert pace(0.1, 0.1) == pytest.approx(1)
    assert pace(0.999, 0.1) < 0.001
