"""`patchserve train`, `patchserve scenes` and `patchserve evaluate`."""

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


def train(  # noqa: PLR0913 - each parameter is a flag
    data: Annotated[
        str | None,
        typer.Option(
            help="a folder of images, or `scenes`; default: train the bundled checkpoints"
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="a network, e.g. vit-ti/16, segformer-b0")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="the checkpoint to start from: a folder or hub id")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the results")] = None,
    task: Annotated[
        Task | None, typer.Option(help="the task, if the data fits more than one")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="scratch, fine-tune or article")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="the checkpoint that teaches the second head of a deit")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="an option of the network, e.g. positions=sinusoidal_2d"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0.0)] = None,
    image_size: Annotated[
        int | None, typer.Option(min=8, help="side of the images, in pixels")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="seed of all random numbers; default: 1")
    ] = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option(help="resume an interrupted run")] = False,
    overwrite: Annotated[bool, typer.Option(help="replace existing results")] = False,
) -> None:
    """Train a network on your images, or, without --data, both bundled checkpoints."""
    options: dict[str, Any] = {
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
    options = {name: value for name, value in options.items() if value is not None}
    with readable_errors():
        target = out or default_folder(data)
        run(options, target, device=device, resume=resume, overwrite=overwrite)


def run(
    options: Mapping[str, Any], target: Path, *, device: str, resume: bool, overwrite: bool
) -> None:
    """Resume a run, start a run, or train the bundled checkpoints.

    Raises:
        ValueError, OSError: the options cannot be carried out.
    """
    if resume:
        with watched(target) as arguments:
            training.resume(target, options=options, device=device, **arguments)
    elif "data" in options:
        plan = training.Plan(**options)
        with watched(target) as arguments:
            training.fit(plan, target, overwrite=overwrite, device=device, **arguments)
    elif options.keys() - {"seed"}:
        raise ValueError("--data is missing: the images to train on")
    else:
        training.train_all(target, seed=options.get("seed", 1), overwrite=overwrite)


def default_folder(data: str | None) -> Path:
    """Return the folder of a run, named after its data."""
    return Path("runs") / (
        "shapes" if data is None else Path(data.partition(":")[0]).absolute().name
    )


def pairs(options: list[str]) -> dict[str, str]:
    """Return name=value texts as a dict; exit with a message if one has another form."""
    if invalid := [option for option in options if "=" not in option]:
        stop(f"--option is name=value, not {invalid[0]}", USAGE_ERROR)
    return dict(option.split("=", 1) for option in options)


@contextmanager
def watched(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield arguments that display a run and stop it on a signal; then print how to resume it."""
    try:
        with stopping() as stop_requested, training.Display() as display:
            yield {"stop": stop_requested, "watcher": display}
            display.say(f"written to {folder}")
    except training.Interrupted:
        name = shlex.quote(str(folder))
        stop(f"interrupted; patchserve train --resume --out {name} continues", INTERRUPTED)
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
    out: Annotated[Path | None, typer.Option(help="folder for the plots")] = None,
) -> None:
    """Print the quality of two checkpoints on unseen scenes."""
    with readable_errors():
        training.evaluate(
            bundled_or("classify", classifier),
            bundled_or("segment", segmenter),
            seed=seed,
            count=count,
            out=out,
        )


def bundled_or(task: Task, source: str) -> str | Path:
    """Return the folder of the bundled checkpoint for `bundled`, or the source unchanged."""
    return checkpoint.bundled(task) if source == "bundled" else source
