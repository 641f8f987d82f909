"""Owns `patchserve train`, `patchserve scenes` and `patchserve evaluate`.

Knows nothing of how networks learn.
"""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.failures import readable_errors
from app.commands.options import Count, Seed, Source
from app.schemas import Task
from models import checkpoint, training


def train(
    out: Annotated[Path, typer.Option(help="folder for both checkpoints")] = Path("runs/shapes"),
    seed: Seed = 1,
    overwrite: Annotated[bool, typer.Option(help="replace what is there")] = False,
) -> None:
    """Train the bundled checkpoints anew, on scenes that are drawn for it."""
    with readable_errors():
        training.train_all(out, seed=seed, overwrite=overwrite)


def scenes(
    out: Annotated[Path, typer.Option(help="folder for the images and their truth")],
    seed: Seed = 0,
    count: Count = 8,
) -> None:
    """Draw sample scenes and write them with their truth."""
    with readable_errors():
        training.write_scenes(seed, count, out)


def evaluate(
    classifier: Source = "bundled",
    segmenter: Source = "bundled",
    seed: Seed = 20_000,
    count: Count = 2_000,
    out: Annotated[Path | None, typer.Option(help="folder for the pictures")] = None,
) -> None:
    """Print the quality of two checkpoints on scenes they have not seen."""
    with readable_errors():
        training.evaluate(
            bundled_or("classify", classifier),
            bundled_or("segment", segmenter),
            seed=seed,
            count=count,
            out=out,
        )


def bundled_or(task: Task, source: str) -> str | Path:
    """The folder of a bundled checkpoint, or the source as it is."""
    return checkpoint.bundled(task) if source == "bundled" else source
