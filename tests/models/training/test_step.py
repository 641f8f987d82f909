import math

import pytest
import torch
from torch import Tensor, nn

from models.training.step import Loop, cosine_factor, decaying


class Identity(nn.Module):
    """Learns to return its input, through a layer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 3))

    def forward(self, batch: Tensor) -> Tensor:
        return (self.network(batch) - batch).square().mean()


def loop(averaging: float = 0.0, max_grad_norm: float = math.inf) -> Loop[Tensor]:
    torch.manual_seed(0)
    learner = Identity()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    return Loop(learner, optimizer, averaging=averaging, max_grad_norm=max_grad_norm)


def batches() -> Tensor:
    return torch.randn(40, 5, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("averaging", [0.0, 0.8])
def test_steps_lower_the_loss(averaging):
    trained = loop(averaging)
    losses = [trained.step(batch) for batch in batches()]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert not trained.result().training


def test_the_result_is_the_average_of_the_weights():
    trained = loop(averaging=0.5)
    weights = []
    for batch in batches()[:2]:
        trained.step(batch)
        weights.append(trained.learner.network[0].weight.detach().clone())
    assert torch.allclose(trained.result()[0].weight, (weights[0] + weights[1]) / 2)


def test_the_result_without_an_average_is_the_network_itself():
    trained = loop()
    assert trained.result() is trained.learner.network


@pytest.mark.parametrize("averaging", [0.0, 0.8])
def test_a_restored_loop_continues_as_if_uninterrupted(averaging):
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
    expected, actual = whole.result().state_dict(), second.result().state_dict()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_a_learning_rate_of_zero_keeps_the_weights():
    trained = loop()
    before = trained.learner.network[0].weight.detach().clone()
    trained.step(batches()[0], rate_factor=0.0)
    assert torch.equal(before, trained.learner.network[0].weight)


def test_large_gradients_are_clipped():
    trained = loop(max_grad_norm=1e-3)
    trained.step(1000 * batches()[0])
    norms = [parameter.grad.norm() for parameter in trained.learner.parameters()]
    assert torch.stack(norms).norm() == pytest.approx(1e-3, rel=1e-3)


def test_only_matrices_have_weight_decay():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Conv2d(3, 4, 1))
    assert decaying(module) == {module[0].weight, module[2].weight}


def test_the_learning_rate_rises_to_its_maximum_and_falls_to_nearly_zero():
    assert cosine_factor(0, 0.1) == 0
    assert cosine_factor(0.05, 0.1) == pytest.approx(0.5)
    assert cosine_factor(0.1, 0.1) == pytest.approx(1)
    assert cosine_factor(0.999, 0.1) < 0.001
