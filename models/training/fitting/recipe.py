"""Recipes: the hyperparameters of a training run, its optimizer and its schedule."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import Any, Literal

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from models.training.data.augmentation import Augmentation
from models.training.data.curriculum import Curriculum
from models.training.step import cosine_factor, decaying

USUAL = Augmentation(flip=0.5, smallest_crop=0.8, brightness=0.2, contrast=0.2, saturation=0.2)


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a training run; the defaults are for random initial weights.

    The schedule "cosine" changes the learning rate at each step, with a warm-up; "steps"
    multiplies it by `step_factor` every `step_epochs` epochs.
    """

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 5e-4
    body: float = 1.0  # learning rate of weights from a checkpoint, as a fraction of the other rate
    optimizer: Literal["adamw", "adam"] = "adamw"
    beta2: float = 0.999  # decay per step of the squared gradients' average
    weight_decay: float = 0.05
    schedule: Literal["cosine", "steps"] = "cosine"
    warm_up: float = 0.05  # fraction of all steps
    step_epochs: int = 12
    step_factor: float = 0.8
    averaging: float = 0.02  # fraction of all steps over which weights are averaged; 0: none
    max_grad_norm: float = 1.0  # norm at which gradients are clipped
    augmentation: Augmentation = field(default=USUAL)  # unused with a curriculum
    curriculum: Curriculum | None = None  # generated scenes, in one epoch
    patch_labels: int = 0  # labels of the auxiliary loss of a ViT's patches; 0: no such loss
    cell: int = 1  # side in pixels of the cells; a segmenter learns the label fractions of a cell
    small_init: bool = False  # initial weights for a small network and a short training
    as_is: bool = False  # resize by nearest pixels and only rescale, for random initial weights
    at_input_size: bool = False  # measure label maps at the input size, not the image's own

    def rate_factor(self, step: int, steps: int) -> float:
        """Return the fraction of the learning rate at a step; an epoch has `steps` steps."""
        if self.schedule == "steps":
            return self.step_factor ** (step // steps // self.step_epochs)
        total = steps * self.epochs
        return cosine_factor((step + 1) / (total + 1), self.warm_up)

    def average_per_step(self, steps: int) -> float:
        """Return the decay per step of the average of the weights; 0 means no average."""
        return max(0.0, 1 - 1 / (self.averaging * steps * self.epochs)) if self.averaging else 0.0


ARTICLE = Recipe(  # "Efficient Image Segmentation Using PyTorch: Part 4", for its 128 x 128 pets
    epochs=50,
    batch_size=64,
    learning_rate=4e-4,
    optimizer="adam",
    weight_decay=0.0,
    schedule="steps",
    averaging=0.0,
    max_grad_norm=inf,
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
    """Return the recipe's optimizer; only matrices have weight decay.

    Args:
        learner: has the parameters to train.
        recipe: the hyperparameters.
        fresh: names of the parameters with the full learning rate; None for all. The others have
            the learning rate of the body.
    """
    matrices = decaying(learner)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        key = (fresh is None or name in fresh, parameter in matrices)
        groups.setdefault(key, []).append(parameter)
    param_groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": recipe.learning_rate * (1.0 if new else recipe.body),
            "weight_decay": recipe.weight_decay if matrix else 0.0,
        }
        for (new, matrix), parameters in groups.items()
    ]
    kind = AdamW if recipe.optimizer == "adamw" else Adam
    return kind(param_groups, betas=(0.9, recipe.beta2), fused=True)
