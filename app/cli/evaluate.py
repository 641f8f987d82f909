"""`patchserve evaluate`: the quality of checkpoints on one's own images or on drawn scenes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from app.cli.console import Arch, Labels, readable_errors, stop, write
from app.cli.evaluation_report import document, quality_of, show
from app.core.process import INTERRUPTED
from app.core.types import Task
from app.engine.placement import load_options, resolve_source
from models import figures, training
from models.training.data.sources import Part

FIGURE = "confusion.png"

Data = Annotated[
    str | None, typer.Option(help="Folder of images as for `train`; without it, drawn scenes")
]
Checkpoint = Annotated[str | None, typer.Option(help="Checkpoint: `bundled`, a folder or a Hub id")]
Split = Annotated[
    Part | None,
    typer.Option(help="Images to measure: held out by `train`, trained on, or all [default: val]"),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0, help="Seed of the split [default: that of the training], or of the scenes [20000]"
    ),
]
Count = Annotated[int | None, typer.Option(min=1, help="Number of scenes to draw [default: 2000]")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images per batch [default: that of the training]")
]
Device = Annotated[str | None, typer.Option(help="Device: auto, cpu, cuda or cuda:N")]
Out = Annotated[Path | None, typer.Option(help="Folder for figures of the results")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one line of JSON")]


def evaluate(  # noqa: PLR0913 - each is a flag
    data: Data = None,
    classifier: Checkpoint = None,
    segmenter: Checkpoint = None,
    labels: Labels = None,
    arch: Arch = "",
    split: Split = None,
    seed: Seed = None,
    count: Count = None,
    batch_size: BatchSize = None,
    device: Device = None,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Print the quality of a checkpoint on your images.

    Without --data, print that of a classifier and a segmenter on new scenes.
    """
    only_data = {
        "split": split,
        "batch-size": batch_size,
        "device": device,
        "labels": labels,
        "arch": arch or None,
    }
    with interruptible(), readable_errors():
        if data is None:
            refuse(only_data, "needs --data FOLDER")
            evaluate_scenes(classifier, segmenter, seed, count, out, as_json=json_)
            return
        refuse({"count": count}, "is for drawn scenes, without --data")
        task, source = one_checkpoint(classifier, segmenter)
        options = {
            "part": split or "val",
            "seed": seed,
            "batch_size": batch_size,
            "device": device or "auto",
            "load_options": load_options(labels, arch),
        }
        evaluate_data(source, data, task, options, out, json_)


@contextmanager
def interruptible() -> Iterator[None]:
    """Exit with a message and the usual status if the user interrupts the block."""
    try:
        yield
    except KeyboardInterrupt:
        stop("interrupted", INTERRUPTED)


def refuse(flags: dict[str, Any], reason: str) -> None:
    """Raise ValueError if one of the flags is given."""
    if given := [name for name, value in flags.items() if value is not None]:
        raise ValueError(f"--{given[0]} {reason}")


def one_checkpoint(classifier: str | None, segmenter: str | None) -> tuple[Task, str | Path]:
    """Return the task and the source of the checkpoint; ValueError unless one is given."""
    if classifier is not None and segmenter is None:
        return "classify", resolve_source(classifier, "classify")
    if segmenter is not None and classifier is None:
        return "segment", resolve_source(segmenter, "segment")
    raise ValueError("with --data, name one checkpoint: --classifier or --segmenter CHECKPOINT")


def evaluate_data(
    source: str | Path,
    data: str,
    task: Task,
    options: dict[str, Any],
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure a checkpoint on a folder, print its quality, and draw its confusion matrix."""
    if out is not None:
        figures.require_matplotlib()  # before minutes of work
        out.mkdir(parents=True, exist_ok=True)
    with training.Display(Console(stderr=True)) as display:
        evaluation = training.evaluate_data(source, data, task, watcher=display, **options)
    if as_json:
        typer.echo(json.dumps(document(evaluation, data, options["part"])))
    else:
        show(evaluation, data, Console())
    if out is not None:
        confusion = evaluation.confusion.occurring()
        title = f"{evaluation.checkpoint.name} on {Path(data).name}"
        write(out / FIGURE, figures.confusion_figure(confusion.labels, confusion.counts, title))
        typer.echo(f"confusion matrix: {out / FIGURE}", err=as_json)


def evaluate_scenes(
    classifier: str | None,
    segmenter: str | None,
    seed: int | None,
    count: int | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure a classifier and a segmenter on the same drawn scenes, and print their quality."""
    given = {"seed": seed, "count": count}
    quality = training.evaluate(
        resolve_source(classifier or "bundled", "classify"),
        resolve_source(segmenter or "bundled", "segment"),
        **{name: value for name, value in given.items() if value is not None},
        out=out,
        console=Console(quiet=True) if as_json else None,
    )
    if as_json:
        both = {
            "classify": quality_of("classify", quality.scenes),
            "segment": quality_of("segment", quality.pixels),
        }
        typer.echo(json.dumps(both))
