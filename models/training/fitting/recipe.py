"""Recipes: the numbers of a training run, and the optimizer and pace that follow from them.

Does not know networks by name, data, or files.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import Any, Literal

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from models.training.data.augmentation import Augmentation
from models.training.data.curriculum import Curriculum
from models.training.step import decaying, pace

USUAL = Augmentation(flip=0.5, smallest_crop=0.8, brightness=0.2, contrast=0.2, saturation=0.2)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are for one that begins from nothing.

    The schedule "cosine" warms up and descends step by step; "steps" multiplies the learning rate
    by `step_factor` every `step_epochs` epochs.
    """

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 5e-4
    body: float = 1.0  # the learning rate of what is taken from a checkpoint, in parts of that
    optimizer: Literal["adamw", "adam"] = "adamw"
    beta2: float = 0.999  # of the optimizer: how much of the squared gradients a step keeps
    weight_decay: float = 0.05
    schedule: Literal["cosine", "steps"] = "cosine"
    warm_up: float = 0.05  # of all steps
    step_epochs: int = 12
    step_factor: float = 0.8
    averaging: float = 0.02  # of all steps: over so many the weights are averaged
    largest_gradient: float = 1.0
    augmentation: Augmentation = field(default=USUAL)  # unused with a curriculum
    curriculum: Curriculum | None = None  # generated scenes, in one epoch
    patch_labels: int = 0  # labels of the auxiliary loss of a ViT's patches; 0: no such loss
    cell: int = 1  # side in pixels of the cells whose label fractions a segmenter learns
    small_init: bool = False  # initial weights for a small network and a short training
    as_is: bool = False  # from nothing: pictures come to size by nearest pixels, only rescaled
    at_input_size: bool = False  # label maps are measured there, not at the pictures' own size

    def pace(self, step: int, steps: int) -> float:
        """The learning rate at a step, in parts of its height; `steps` are those of an epoch."""
        if self.schedule == "steps":
            return self.step_factor ** (step // steps // self.step_epochs)
        total = steps * self.epochs
        return pace((step + 1) / (total + 1), self.warm_up)

    def average_per_step(self, steps: int) -> float:
        """What the average of the weights keeps of itself at a step; 0 is no average."""
        return max(0.0, 1 - 1 / (self.averaging * steps * self.epochs)) if self.averaging else 0.0


ARTICLE = Recipe(  # "Efficient Image Segmentation Using PyTorch: Part 4", for its 128 x 128 pets
    epochs=50,
    batch_size=64,
    learning_rate=4e-4,
    optimizer="adam",
    weight_decay=0.0,
    schedule="steps",
    averaging=0.0,
    largest_gradient=inf,
    augmentation=Augmentation(flip=0.5, contrast=0.3),
    as_is=True,
    at_input_size=True,
)
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "scratch": Recipe(),
        "fine-tune": Recipe(epochs=20, learning_rate=1e-3, body=0.1),
        "article": ARTICLE,
    }
)


def optimizer_for(
    learner: nn.Module, recipe: Recipe, fresh: Collection[str] | None = None
) -> Optimizer:
    """The recipe's optimizer; the parameters that are not `fresh` learn at the body's rate.

    `fresh` are names of the learner's parameters; None are all of them. Only matrices decay.
    """
    matrices = decaying(learner)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        key = (fresh is None or name in fresh, parameter in matrices)
        groups.setdefault(key, []).append(parameter)
    described: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": recipe.learning_rate * (1.0 if new else recipe.body),
            "weight_decay": recipe.weight_decay if matrix else 0.0,
        }
        for (new, matrix), parameters in groups.items()
    ]
    kind = AdamW if recipe.optimizer == "adamw" else Adam
    return kind(described, betas=(0.9, recipe.beta2), fused=True)
