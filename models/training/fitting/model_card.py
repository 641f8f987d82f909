"""The model card of a trained network: its data, recipe, command and quality."""

import os
import platform
import shlex
from dataclasses import dataclass
from math import inf
from pathlib import Path

from models.checkpoint import Checkpoint
from models.registry import Task, architecture_of
from models.segformer import Segformer
from models.training.confusion import Confusion
from models.training.data.augmentation import Augmentation
from models.training.data.curriculum import Curriculum
from models.training.data.examples import Data
from models.training.fitting.recipe import Recipe

CARD = """\
---
{license}library_name: {library}
pipeline_tag: {pipeline}
---

# {name}

{network}, {parameters:,} parameters, trained by patchserve: {about}.

- **Input**: an RGB image of {height} x {width} pixels (`preprocessor_config.json`).
- **Labels**: {labels}.
- **Loads with** {loads}.

    patchserve serve --{role} {source}

## Data

{data}

## Recipe

{recipe}

    {command}

Seed {seed}; {minutes:.1f} minutes on {machine}.

## Quality

On the {held_out:,} held-out images, none of which was used for training{where}:

{quality}
"""


@dataclass(frozen=True)
class Fitted:
    """The facts about a run that its model card reports."""

    checkpoint: Checkpoint
    data: Data
    recipe: Recipe
    about: str  # the network before the training
    source: str  # the checkpoint's folder, for the command that serves it
    command: str
    seed: int
    minutes: float
    quality: Confusion
    license: str = ""  # an identifier of the Hugging Face Hub, for the header


def model_card(fitted: Fitted) -> str:
    """Return the README.md of the checkpoint's folder, with the header that the Hub reads."""
    checkpoint, recipe = fitted.checkpoint, fitted.recipe
    classifies = checkpoint.task == "classify"
    architecture = architecture_of(checkpoint.network)
    own = architecture.name.startswith("Patchserve")
    others = f" and with transformers' `{architecture.name}`"
    if isinstance(checkpoint.network, Segformer) and checkpoint.network.config.aligned_upsampling:
        others += ", which ignores `aligned_upsampling` and resizes the logits differently"
    height, width = checkpoint.preprocessing.input_size or (0, 0)
    loads = "`models.checkpoint.load` of patchserve"
    return CARD.format(
        license=f"license: {fitted.license}\n" if fitted.license else "",
        library="patchserve" if own else "transformers",
        pipeline="image-classification" if classifies else "image-segmentation",
        name=checkpoint.name,
        network=architecture.name,
        parameters=sum(p.numel() for p in checkpoint.network.parameters()),
        about=fitted.about,
        height=height,
        width=width,
        labels=", ".join(checkpoint.labels),
        loads=loads if own else loads + others,
        role="classifier" if classifies else "segmenter",
        source=shlex.quote(fitted.source),
        data=fitted.data.about,
        recipe=recipe_text(recipe),
        command=fitted.command,
        seed=fitted.seed,
        minutes=fitted.minutes,
        machine=machine(),
        held_out=len(fitted.data.held_out),
        where=", at the input size" if recipe.at_input_size and not classifies else "",
        quality=quality_table(checkpoint.task, fitted.quality),
    )


def recipe_text(recipe: Recipe) -> str:
    """Describe the recipe in a sentence."""
    kind = {"adamw": "AdamW", "adam": "Adam"}[recipe.optimizer]
    parts = [f"{kind}, learning rate {recipe.learning_rate:g}"]
    if recipe.body != 1:
        parts[-1] += f", {recipe.body:g} of it for the weights from the checkpoint"
    if recipe.schedule == "steps":
        parts[-1] += f", times {recipe.step_factor:g} every {recipe.step_epochs} epochs"
    else:
        parts[-1] += f", warm-up during {recipe.warm_up:.0%} of the steps, then half a cosine"
    if recipe.weight_decay:
        parts += [f"weight decay {recipe.weight_decay:g}"]
    if recipe.max_grad_norm < inf:
        parts += [f"gradients clipped at {recipe.max_grad_norm:g}"]
    if recipe.averaging:
        parts += [f"weights averaged over {recipe.averaging:.0%} of the steps"]
    if recipe.patch_labels:
        parts += ["an auxiliary loss on the label of each patch, by a head that is not kept"]
    if recipe.curriculum is None:
        length = f"{recipe.epochs} epochs in batches of {recipe.batch_size}"
        images = augmentation_text(recipe.augmentation)
    else:
        length, images = curriculum_text(recipe.curriculum, recipe.batch_size)
    return "; ".join([f"{length}, cross-entropy", *parts, images]) + "."


def curriculum_text(curriculum: Curriculum, batch_size: int) -> tuple[str, str]:
    """Describe the length of the training, and the images of its steps."""
    images = f"the first {curriculum.single_steps:.0%} of the steps on scenes with a single shape, "
    images += f"the others on all with several shapes and {curriculum.singles:.0%} of the former; "
    images += "images rotated by right angles, mirrored, with their color channels permuted"
    return f"{curriculum.steps:,} steps in batches of {batch_size}", images


def augmentation_text(augmentation: Augmentation) -> str:
    """Describe the augmentation of the images."""
    a = augmentation
    parts = [f"mirrored with probability {a.flip:g}"] if a.flip else []
    parts += [f"cropped to {a.smallest_crop:.0%} or more"] if a.smallest_crop < 1 else []
    for name in ("brightness", "contrast", "saturation"):
        parts += [f"{name} changed by up to {getattr(a, name):.0%}"] if getattr(a, name) else []
    return "images " + (", ".join(parts) or "without augmentation")


def quality_table(task: Task, quality: Confusion) -> str:
    """Return the quality as a table in Markdown."""
    if task == "classify":
        head, overall, values = "recall", f"accuracy {quality.accuracy:.4f}", quality.recall
    else:
        head, values = "IoU", quality.iou
        overall = f"mean IoU {quality.mean_iou:.4f}, pixel accuracy {quality.accuracy:.4f}"
    rows = [
        f"| {label} | {value:.4f} |" for label, value in zip(quality.labels, values, strict=True)
    ]
    return "\n".join([f"**{overall}**", "", f"| label | {head} |", "| --- | --- |", *rows])


def machine() -> str:
    """Return the number of cores, and the processor's name if the system reports it."""
    cores = f"{os.cpu_count()} cores"
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{cores} of an {names[0]}" if names else f"{cores} ({platform.machine()})"
