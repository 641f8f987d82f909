"""The model card: what a checkpoint is, how it came about and how well it does.

Does not know how to train or to measure; it is told.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import Checkpoint
from models.registry import Task
from models.training.bundled.curriculum import Curriculum
from models.training.confusion import Confusion
from models.training.scenes.scene import SIZE, UNSEEN_SEED
from models.training.scenes.shapes import KINDS

CARD = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: {pipeline}
---

# {name}

{what}, {parameters:,} parameters. It comes with patchserve, so that the service answers rightly
before anyone has a checkpoint of their own; it knows drawn shapes and nothing else.

- **Input**: an RGB image, stretched to {height} x {width} pixels (`preprocessor_config.json`).
- **Output**: {output}.
- **Labels**: {labels}.
- **Loads with** `models.checkpoint.load` and with transformers' `{architecture}`.

## Data

{recipe.scenes:,} scenes of {size} x {size} pixels that patchserve draws itself (`patchserve scenes`
draws more): one to four shapes of {kinds} kinds ({kind_names})
before a background. Size, rotation, squeeze, colour, pattern, light, blur and noise vary, all
independently of the kind; a shape's area does not depend on its kind either. In half of the scenes
one shape hides a part of another.

## Recipe

{recipe.steps:,} steps of {recipe.batch_size} scenes, mirrored, turned by right angles and with
their colour channels swapped: the first {recipe.alone:.0%} of the steps on scenes of a single
shape, the others on all scenes of several shapes and {recipe.singles:.0%} of the single ones.
AdamW, learning rate {recipe.learning_rate:g} with a linear warm-up and a cosine descent, weight
decay {recipe.weight_decay:g}, gradients clipped at {recipe.largest_gradient:g}; what is kept is a
moving average of the weights ({recipe.averaging:g} per step). {extra}

    patchserve train --seed {seed}

trains this checkpoint and its companion anew, side by side, each on one core. This one took
{minutes:.0f} minutes of processor time on {machine}.

## Quality

On {measured:,} scenes of seed {unseen}, none of them trained on (`patchserve evaluate`):

{figures}

## Licence

Apache-2.0, like the rest of patchserve. No data of others was used.
"""
WHAT = {
    "classify": "A small Vision Transformer that says of which kind the largest shape is",
    "segment": "A small SegFormer that says of each pixel which kind of shape it shows",
}
OUTPUT = {
    "classify": "logits over the kinds, for the shape with the most visible pixels",
    "segment": "logits over background and kinds, at a quarter of the input's size",
}
EXTRA = {
    "classify": """\
Positions
begin as sines, keys as queries. While it trains, a second head asks each patch token for the labels
at four spots of its patch; that head is not kept.""",
    "segment": """\
The loss
is the cross-entropy of the logits, resized to half the scene, with the part of each 2 x 2 pixels
that each label covers.""",
}
PIPELINE = {"classify": "image-classification", "segment": "image-segmentation"}
ARCHITECTURE = {
    "classify": "ViTForImageClassification",
    "segment": "SegformerForSemanticSegmentation",
}


@dataclass(frozen=True)
class Training:
    """What there is to tell of a training run."""

    task: Task
    checkpoint: Checkpoint
    curriculum: Curriculum
    seed: int
    minutes: float  # of processor time
    quality: Confusion
    measured: int  # scenes


def card(training: Training) -> str:
    """The README.md of a checkpoint's folder, with the header that the hub reads."""
    task, curriculum, checkpoint = training.task, training.curriculum, training.checkpoint
    height, width = checkpoint.preprocessing.input_size or (SIZE, SIZE)
    return CARD.format(
        pipeline=PIPELINE[task],
        name=checkpoint.name,
        what=WHAT[task],
        parameters=sum(parameter.numel() for parameter in checkpoint.network.parameters()),
        height=height,
        width=width,
        output=OUTPUT[task],
        labels=", ".join(checkpoint.labels),
        architecture=ARCHITECTURE[task],
        size=SIZE,
        kinds=len(KINDS),
        kind_names=", ".join(KINDS),
        recipe=curriculum,
        extra=EXTRA[task],
        seed=training.seed,
        minutes=training.minutes,
        machine=machine(),
        measured=training.measured,
        unseen=UNSEEN_SEED,
        figures=figures(task, training.quality),
    )


def figures(task: Task, quality: Confusion) -> str:
    """The quality as a table in Markdown."""
    if task == "classify":
        head, overall, values = "recall", f"accuracy {quality.accuracy:.4f}", quality.recall
    else:
        head, overall, values = "IoU", f"mean IoU {quality.mean_iou:.4f}", quality.iou
    rows = [
        f"| {label} | {value:.4f} |" for label, value in zip(quality.labels, values, strict=True)
    ]
    return "\n".join([f"**{overall}**", "", f"| label | {head} |", "| --- | --- |", *rows])


def machine() -> str:
    """The processor's name, where the system tells it, and how many cores there are."""
    cores = f"{os.cpu_count()} cores"
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{cores} of an {names[0]}" if names else f"{cores} ({platform.machine()})"
