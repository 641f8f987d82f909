"""Owns `patchserve train`, `patchserve scenes` and `patchserve evaluate`.

Knows nothing of how networks learn.
"""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.console import Count, Device, Seed, Source, readable_errors, stop
from app.core.process import INTERRUPTED, USAGE_ERROR, stopping
from app.core.types import Task
from models import checkpoint, training


def train(  # noqa: PLR0913 - each is a flag
    data: Annotated[
        str | None, typer.Option(help="a folder of pictures, or `scenes`; without: the bundled two")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="a network, e.g. vit-ti/16, segformer-b0")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="a checkpoint to begin from: a folder or a hub id")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for what comes of it")] = None,
    task: Annotated[
        Task | None, typer.Option(help="what to learn, if the data leaves it open")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="scratch, fine-tune or article")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="a checkpoint that a deit's second head learns from")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="of the network, e.g. positions=sinusoidal_2d")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0)] = None,
    image_size: Annotated[int | None, typer.Option(min=8, help="a side, in pixels")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of everything random; 1")] = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option(help="go on with an interrupted run")] = False,
    overwrite: Annotated[bool, typer.Option(help="replace what is there")] = False,
) -> None:
    """Train a network on your pictures, or, without --data, the bundled checkpoints anew."""
    said: dict[str, Any] = {
        "data": data,
        "model": model,
        "source": from_,
        "task": task,
        "preset": preset,
        "teacher": teacher,
        "options": pairs(option) if option else None,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "image_size": image_size,
        "seed": seed,
    }
    said = {name: value for name, value in said.items() if value is not None}
    with readable_errors():
        target = out or default_folder(data)
        learn(said, target, device=device, resume=resume, overwrite=overwrite)


def learn(
    said: Mapping[str, Any], target: Path, *, device: str, resume: bool, overwrite: bool
) -> None:
    """Go on with a run, begin one, or train the bundled checkpoints, whatever was said.

    Raises:
        ValueError, OSError: what was said does not do.
    """
    if resume:
        with watched(target) as how:
            training.resume(target, said=said, device=device, **how)
    elif "data" in said:
        plan = training.Plan(**said)
        with watched(target) as how:
            training.fit(plan, target, overwrite=overwrite, device=device, **how)
    elif said.keys() - {"seed"}:
        raise ValueError("--data is missing: what to learn from")
    else:
        training.train_all(target, seed=said.get("seed", 1), overwrite=overwrite)


def default_folder(data: str | None) -> Path:
    """The folder of a run, by what it learns from."""
    return Path("runs") / (
        "shapes" if data is None else Path(data.partition(":")[0]).absolute().name
    )


def pairs(options: list[str]) -> dict[str, str]:
    """name=value texts as a table; ends the program at one that is none."""
    if odd := [option for option in options if "=" not in option]:
        stop(f"--option is name=value, not {odd[0]}", USAGE_ERROR)
    return dict(option.split("=", 1) for option in options)


@contextmanager
def watched(folder: Path) -> Iterator[dict[str, Any]]:
    """Show a run, and let it be interrupted: then say how to go on."""
    try:
        with stopping() as told, training.Display() as display:
            yield {"stop": told, "watcher": display}
            display.say(f"written to {folder}")
    except training.Interrupted:
        name = shlex.quote(str(folder))
        stop(f"interrupted; patchserve train --resume --out {name} goes on", INTERRUPTED)
    except KeyboardInterrupt:
        stop("interrupted", INTERRUPTED)


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
