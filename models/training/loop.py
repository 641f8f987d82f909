"""The training loop: a learner, a pool of scenes, and a recipe of numbers.

Does not know what is learnt, nor how the result is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import Any, cast

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.segformer import Segformer
from models.training.learners import ClassifierLearner, SegmenterLearner
from models.training.pool import Batch, batches
from models.vit import ViT

Report = Callable[[int, float], None]  # hears of each step: how many are done, and its loss


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training run; parts are parts of all steps, from the first one on."""

    scenes: int  # in the pool
    steps: int
    batch_size: int
    learning_rate: float
    alone: float  # the part in which each scene holds a single shape
    singles: float = 1.0  # the part of such scenes that is kept for the rest
    warm_up: float = 0.03  # the part in which the learning rate rises to its height
    weight_decay: float = 0.05
    averaging: float = 0.998  # per step: what is kept is a moving average of the weights
    largest_gradient: float = 1.0


def fit(
    learner: ClassifierLearner | SegmenterLearner,
    pool: Batch,
    recipe: Recipe,
    generator: torch.Generator,
    report: Report,
) -> ViT | Segformer:
    """Train the learner; the result is the average of its network's last weights, in eval mode."""
    groups = weight_groups(learner, recipe)
    optimizer = AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    average = AveragedModel(
        learner.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging), use_buffers=True
    )
    easy = batches(pool.alone(), recipe.batch_size, generator)
    full = batches(pool.crowded(recipe.singles), recipe.batch_size, generator)
    learner.train()
    for step in range(recipe.steps):
        progress = step / recipe.steps
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * pace(progress, recipe.warm_up)
        batch = next(easy if progress < recipe.alone else full)
        loss = learner(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), recipe.largest_gradient)
        optimizer.step()
        average.update_parameters(learner.network)
        report(step + 1, loss.item())
    return cast(ViT | Segformer, average.module.eval())


def pace(progress: float, warm_up: float) -> float:
    """The learning rate in parts of its height: up in a line, down in half a cosine."""
    if progress < warm_up:
        return progress / warm_up
    return (1 + cos(pi * (progress - warm_up) / (1 - warm_up))) / 2


def weight_groups(learner: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, tokens and positions do not."""
    decaying = {
        module.weight for module in learner.modules() if isinstance(module, nn.Linear | nn.Conv2d)
    }
    others = [p for p in learner.parameters() if p not in decaying]
    return [
        {"params": [p for p in learner.parameters() if p in decaying]}
        | {"weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
