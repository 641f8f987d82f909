"""The curriculum of the bundled networks: scenes of a single shape first, then crowded ones.

Does not know what is learnt, nor how the result is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from models.registry import Network
from models.training.bundled.batches import Batch, batches
from models.training.bundled.objectives import ClassifierLearner, SegmenterLearner
from models.training.step import Loop, decaying, pace

Report = Callable[[int, float], None]  # hears of each step: how many are done, and its loss


@dataclass(frozen=True)
class Curriculum:
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


def teach(
    learner: ClassifierLearner | SegmenterLearner,
    pool: Batch,
    curriculum: Curriculum,
    generator: torch.Generator,
    report: Report,
) -> Network:
    """Train the learner; the result is the average of its network's last weights, in eval mode."""
    groups = weight_groups(learner, curriculum)
    optimizer = AdamW(groups, lr=curriculum.learning_rate, betas=(0.9, 0.98), fused=True)
    loop: Loop[Batch] = Loop(
        learner,
        optimizer,
        averaging=curriculum.averaging,
        largest_gradient=curriculum.largest_gradient,
    )
    easy = batches(pool.alone(), curriculum.batch_size, generator)
    full = batches(pool.crowded(curriculum.singles), curriculum.batch_size, generator)
    for step in range(curriculum.steps):
        progress = step / curriculum.steps
        batch = next(easy if progress < curriculum.alone else full)
        report(step + 1, loop.step(batch, pace(progress, curriculum.warm_up)))
    return loop.result()


def weight_groups(learner: nn.Module, curriculum: Curriculum) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, tokens and positions do not."""
    matrices = decaying(learner)
    return [
        {"params": [p for p in learner.parameters() if p in matrices]}
        | {"weight_decay": curriculum.weight_decay},
        {"params": [p for p in learner.parameters() if p not in matrices], "weight_decay": 0.0},
    ]
