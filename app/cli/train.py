"""`patchserve train` and `patchserve scenes`."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.console import Count, Device, Seed, readable_errors, stop
from app.core.process import INTERRUPTED, USAGE_ERROR, catch_stop_signals
from app.core.types import Task
from models import training

Data = Annotated[
    str | None,
    typer.Option(help="Folder of images, or `scenes`; without it, train the bundled models"),
]
Model = Annotated[str | None, typer.Option(help="Network to train, e.g. vit-ti/16 or segformer-b0")]
Start = Annotated[
    str | None, typer.Option("--from", help="Checkpoint to start from: a folder or a Hub id")
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for the checkpoint; default: runs/<name of the data>")
]
TrainedTask = Annotated[Task | None, typer.Option(help="Task to train, if the data allows both")]
Preset = Annotated[str | None, typer.Option(help="Training recipe: scratch, fine-tune or article")]
Teacher = Annotated[
    str | None,
    typer.Option(help="Checkpoint of the teacher, for the distillation head of a DeiT"),
]
Options = Annotated[
    list[str] | None,
    typer.Option(help="Option of the network, e.g. positions=sinusoidal_2d; repeatable"),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Number of epochs")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Images per training step")]
LearningRate = Annotated[float | None, typer.Option(min=0.0, help="Learning rate")]
ImageSize = Annotated[int | None, typer.Option(min=8, help="Side of the input, in pixels")]
RunSeed = Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers; default: 1")]
Resume = Annotated[bool, typer.Option(help="Continue an interrupted run")]
Overwrite = Annotated[bool, typer.Option(help="Replace existing files in the folder")]


def train(  # noqa: PLR0913 - each is a flag
    data: Data = None,
    model: Model = None,
    from_: Start = None,
    out: Out = None,
    task: TrainedTask = None,
    preset: Preset = None,
    teacher: Teacher = None,
    option: Options = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    image_size: ImageSize = None,
    seed: RunSeed = None,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a network on your images.

    Without --data, train the bundled checkpoints again.
    """
    given: dict[str, Any] = {
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
    given = {name: value for name, value in given.items() if value is not None}
    with readable_errors():
        target = out or default_folder(data)
        run_training(given, target, device=device, resume=resume, overwrite=overwrite)


def run_training(
    given: Mapping[str, Any], target: Path, *, device: str, resume: bool, overwrite: bool
) -> None:
    """Continue a run, start one, or train the bundled checkpoints, depending on the flags.

    Args:
        given: the flags that were given, as arguments of a training plan.
        target: folder of the run.
        device: of the training.
        resume: continue the run in the folder.
        overwrite: replace existing files in the folder.

    Raises:
        ValueError, OSError: the flags do not fit together, or a file cannot be used.
    """
    if resume:
        with progress_shown(target) as callbacks:
            training.resume(target, options=given, device=device, **callbacks)
    elif "data" in given:
        plan = training.Plan(**given)
        with progress_shown(target) as callbacks:
            training.fit(plan, target, overwrite=overwrite, device=device, **callbacks)
    elif given.keys() - {"seed"}:
        raise ValueError("--data is missing: a folder of images, or scenes")
    elif device not in ("auto", "cpu"):
        raise ValueError(
            f"--device {device} needs --data: the bundled checkpoints are trained on CPU cores"
        )
    else:
        training.train_all(target, seed=given.get("seed", 1), overwrite=overwrite)


def default_folder(data: str | None) -> Path:
    """The folder of a run if none is given, named after the data."""
    return Path("runs") / (
        "shapes" if data is None else Path(data.partition(":")[0]).absolute().name
    )


def pairs(options: list[str]) -> dict[str, str]:
    """Parse texts of the form name=value; exit with a message if a text has another form."""
    if invalid := [option for option in options if "=" not in option]:
        stop(f"--option must be name=value, not {invalid[0]}", USAGE_ERROR)
    return dict(option.split("=", 1) for option in options)


@contextmanager
def progress_shown(folder: Path) -> Iterator[dict[str, Any]]:
    """Show the progress of a run; if it is interrupted, print how to continue it."""
    try:
        with catch_stop_signals() as stop_requested, training.Display() as display:
            yield {"stop": stop_requested, "watcher": display}
            display.say(f"written to {folder}")
    except training.Interrupted:
        name = shlex.quote(str(folder))
        stop(f"interrupted; continue with patchserve train --resume --out {name}", INTERRUPTED)
    except KeyboardInterrupt:
        stop("interrupted", INTERRUPTED)


def scenes(
    out: Annotated[Path, typer.Option(help="Folder for the images and their ground truth")],
    seed: Seed = 0,
    count: Count = 8,
) -> None:
    """Draw sample scenes and write them with their ground truth."""
    with readable_errors():
        training.write_scenes(seed, count, out)
