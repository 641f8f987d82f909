"""The model card of a fitted network: the data, the recipe, the command and the quality.

Does not know how to train or to measure; it is told.
"""

from dataclasses import dataclass
from math import inf

from models.checkpoint import Checkpoint
from models.registry import architecture_of
from models.training.bundled.model_card import figures, machine
from models.training.confusion import Confusion
from models.training.data.augmentation import Augmentation
from models.training.data.examples import Data
from models.training.fitting.recipe import Recipe

CARD = """\
---
library_name: {library}
pipeline_tag: {pipeline}
---

# {name}

{network}, {parameters:,} parameters, fitted by patchserve: {about}.

- **Input**: an RGB image of {height} x {width} pixels (`preprocessor_config.json`).
- **Labels**: {labels}.
- **Loads with** {loads}.

    patchserve serve --{role} {name}

## Data

{data}

## Recipe

{recipe}

    {command}

Seed {seed}; {minutes:.1f} minutes on {machine}.

## Quality

On the {held_out:,} held-out pictures, of which none was learnt from{where}:

{figures}
"""


@dataclass(frozen=True)
class Fitted:
    """What there is to tell of a run."""

    checkpoint: Checkpoint
    data: Data
    recipe: Recipe
    about: str  # what it began as
    command: str
    seed: int
    minutes: float
    quality: Confusion


def model_card(fitted: Fitted) -> str:
    """The README.md of the checkpoint's folder, with the header that the hub reads."""
    checkpoint, recipe = fitted.checkpoint, fitted.recipe
    classifies = checkpoint.task == "classify"
    architecture = architecture_of(checkpoint.network)
    own = architecture.name.startswith("Patchserve")
    height, width = checkpoint.preprocessing.input_size or (0, 0)
    loads = "`models.checkpoint.load` of patchserve"
    return CARD.format(
        library="patchserve" if own else "transformers",
        pipeline="image-classification" if classifies else "image-segmentation",
        name=checkpoint.name,
        network=architecture.name,
        parameters=sum(p.numel() for p in checkpoint.network.parameters()),
        about=fitted.about,
        height=height,
        width=width,
        labels=", ".join(checkpoint.labels),
        loads=loads if own else f"{loads} and with transformers' `{architecture.name}`",
        role="classifier" if classifies else "segmenter",
        data=fitted.data.about,
        recipe=told(recipe),
        command=fitted.command,
        seed=fitted.seed,
        minutes=fitted.minutes,
        machine=machine(),
        held_out=len(fitted.data.held_out),
        where=", at the input size" if recipe.at_input_size and not classifies else "",
        figures=figures(checkpoint.task, fitted.quality),
    )


def told(recipe: Recipe) -> str:
    """The recipe in sentences."""
    kind = {"adamw": "AdamW", "adam": "Adam"}[recipe.optimizer]
    parts = [f"{recipe.epochs} epochs in batches of {recipe.batch_size}, cross-entropy"]
    parts += [f"{kind}, learning rate {recipe.learning_rate:g}"]
    if recipe.body != 1:
        parts[-1] += f", {recipe.body:g} of it for what the checkpoint had"
    if recipe.schedule == "steps":
        parts[-1] += f", times {recipe.step_factor:g} every {recipe.step_epochs} epochs"
    else:
        parts[-1] += f", up during {recipe.warm_up:.0%} of the steps and down in half a cosine"
    if recipe.weight_decay:
        parts += [f"weight decay {recipe.weight_decay:g}"]
    if recipe.largest_gradient < inf:
        parts += [f"gradients clipped at {recipe.largest_gradient:g}"]
    if recipe.averaging:
        parts += [f"weights averaged over {recipe.averaging:.0%} of the steps"]
    return "; ".join([*parts, augmented(recipe.augmentation)]) + "."


def augmented(augmentation: Augmentation) -> str:
    """What happens to the pictures."""
    a = augmentation
    parts = [f"mirrored with a chance of {a.flip:g}"] if a.flip else []
    parts += [f"cropped to {a.smallest_crop:.0%} or more"] if a.smallest_crop < 1 else []
    for name in ("brightness", "contrast", "saturation"):
        parts += [f"{name} by up to {getattr(a, name):.0%}"] if getattr(a, name) else []
    return "pictures " + (", ".join(parts) or "as they are")
