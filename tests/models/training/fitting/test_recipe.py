from dataclasses import replace
from math import inf

import pytest
import torch
from torch import nn

from models.training.fitting.recipe import ARTICLE, RECIPES, Recipe, optimizer_for


def test_the_article_multiplies_by_four_fifths_every_twelve_epochs():
    """Equal to torch's StepLR(12, 0.8)."""
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=ARTICLE.learning_rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 12, 0.8)
    for epoch in range(ARTICLE.epochs):
        for batch in range(3):
            rate = ARTICLE.learning_rate * ARTICLE.rate_factor(3 * epoch + batch, 3)
            assert rate == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_the_hyperparameters_of_the_article():
    assert (ARTICLE.epochs, ARTICLE.batch_size, ARTICLE.learning_rate) == (50, 64, 4e-4)
    assert type(optimizer_for(nn.Linear(2, 2), ARTICLE)) is torch.optim.Adam
    assert (ARTICLE.augmentation.flip, ARTICLE.augmentation.contrast) == (0.5, 0.3)
    assert ARTICLE.average_per_step(100) == 0
    assert ARTICLE.max_grad_norm == inf


def test_the_default_schedule_warms_up_and_falls_to_nearly_zero():
    recipe = Recipe(epochs=10)
    factors = [recipe.rate_factor(step, 20) for step in range(200)]
    assert 0 < factors[0] < 0.2
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert factors.index(max(factors)) == pytest.approx(10, abs=1)
    assert 0 < factors[-1] < 0.001


def test_weights_are_averaged_over_a_fraction_of_all_steps():
    assert Recipe(epochs=10, averaging=0.02).average_per_step(100) == pytest.approx(1 - 1 / 20)
    assert Recipe(epochs=1, averaging=0.02).average_per_step(2) == 0


def test_weights_from_a_checkpoint_learn_more_slowly_and_only_matrices_decay():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    recipe = replace(RECIPES["fine-tune"], learning_rate=1.0, body=0.1, weight_decay=0.5)
    param_groups = optimizer_for(network, recipe, {"1.weight", "1.bias"}).param_groups
    by_parameter = {id(p): g for g in param_groups for p in g["params"]}
    groups = [
        (by_parameter[id(p)]["lr"], by_parameter[id(p)]["weight_decay"])
        for p in network.parameters()
    ]
    assert groups == [(0.1, 0.5), (0.1, 0.0), (1.0, 0.5), (1.0, 0.0)]
    everything = optimizer_for(network, recipe, None).param_groups
    assert {group["lr"] for group in everything} == {1.0}
    nothing = optimizer_for(network, recipe, frozenset()).param_groups
    assert {group["lr"] for group in nothing} == {0.1}
