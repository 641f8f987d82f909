"""Owns the command line: `patchserve serve | classify | segment | train | scenes | evaluate`.

Knows nothing of how any of it is done; it reads flags, calls, and prints.
"""

import os

# OpenMP reads this when torch is loaded. Its threads would spin while they wait for each other,
# which on a machine with anything else to do costs a small network many times its time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer
import uvicorn
from pydantic import ValidationError

from app import logs, masks
from app.engine import (
    ClassifyInput,
    Engine,
    EngineInput,
    EngineOutput,
    LabelMap,
    ModelInfo,
    Ranking,
    SegmentInput,
)
from app.errors import ServiceError
from app.images import Photo, decode, forbid_bombs
from app.main import create_app
from app.schemas import Task
from app.settings import Settings
from models import checkpoint, training

START_FAILED, USAGE_ERROR, LOAD_FAILED = 1, 2, 3
KEEP_ALIVE_S = 75  # longer than the common load balancers', so that they close first

cli = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Images = Annotated[list[Path], typer.Argument(help="image files", metavar="IMAGE...")]
Source = Annotated[str, typer.Option(help="`bundled`, a folder or a hub id")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Seed = Annotated[int, typer.Option(help="of everything random")]
Count = Annotated[int, typer.Option(min=1, help="scenes to draw")]


def settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each field of Settings, so that no setting is declared twice."""
    flags = []
    for name, field in Settings.model_fields.items():
        option = typer.Option(f"--{name.replace('_', '-')}", help=field.description)
        option.show_default = str(field.default)
        annotation = Annotated[str | None, option]
        flags.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
        )
    command.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    command.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return command


@cli.command()
@settings_flags
def serve(**flags: str | None) -> None:
    """Serve the models over HTTP. Each flag is also a variable: PATCHSERVE_<NAME>."""
    with readable_errors():
        settings = Settings.read(**{k: v for k, v in flags.items() if v is not None})
    logs.configure(settings.log_level)
    forbid_bombs(settings.max_image_pixels)
    failures: list[Exception] = []

    def on_fatal(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    with readable_errors():
        app = create_app(settings, on_fatal=on_fatal)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn has stopped cleanly and passes it on
        server.run()
    if failures:
        stop(f"cannot load: {one_line(failures[0])}", LOAD_FAILED)
    if not server.started:
        stop("the service could not start; the log says why", START_FAILED)


@cli.command()
def classify(
    images: Images,
    classifier: Source = "bundled",
    device: Device = "auto",
    top_k: Annotated[int, typer.Option(min=1, help="labels at most")] = 5,
) -> None:
    """Print the labels of images, best first."""

    def ask(photo: Photo, info: ModelInfo) -> ClassifyInput:
        return ClassifyInput(photo.pixels, min(top_k, len(info.labels)))

    for path, _, info, output in run_on(images, classifier, "classify", device, ask):
        ranking = cast(Ranking, output)
        best = zip(ranking.indices, ranking.scores, strict=True)
        typer.echo(f"{path}: " + ", ".join(f"{info.labels[i]} {score:.4f}" for i, score in best))


@cli.command()
def segment(
    images: Images,
    out: Annotated[Path, typer.Option(help="folder for the masks")],
    segmenter: Source = "bundled",
    device: Device = "auto",
    render: Annotated[str, typer.Option(help="mask, color or overlay")] = "mask",
) -> None:
    """Write the masks of images, each as OUT/<name>.<render>.png."""
    if render not in masks.RENDERS:
        stop(f"--render is one of {', '.join(masks.RENDERS)}", USAGE_ERROR)
    with readable_errors():
        out.mkdir(parents=True, exist_ok=True)

    def ask(photo: Photo, info: ModelInfo) -> SegmentInput:
        return SegmentInput(photo.pixels, (photo.height, photo.width))

    for path, photo, info, output in run_on(images, segmenter, "segment", device, ask):
        target = out / f"{path.stem}.{render}.png"
        target.write_bytes(masks.render(cast(LabelMap, output), info.labels, render, photo.rgb))
        typer.echo(f"{path}: {target}")


@cli.command()
def train(
    out: Annotated[Path, typer.Option(help="folder for both checkpoints")] = Path("runs/shapes"),
    seed: Seed = 1,
    overwrite: Annotated[bool, typer.Option(help="replace what is there")] = False,
) -> None:
    """Train the bundled checkpoints anew, on scenes that are drawn for it."""
    with readable_errors():
        training.train_all(out, seed=seed, overwrite=overwrite)


@cli.command()
def scenes(
    out: Annotated[Path, typer.Option(help="folder for the images and their truth")],
    seed: Seed = 0,
    count: Count = 8,
) -> None:
    """Draw sample scenes and write them with their truth."""
    with readable_errors():
        training.write_scenes(seed, count, out)


@cli.command()
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


def run_on(
    images: list[Path],
    source: str,
    task: Task,
    device: str,
    ask: Callable[[Photo, ModelInfo], EngineInput],
) -> Iterator[tuple[Path, Photo, ModelInfo, EngineOutput]]:
    """Run the engine over image files; one that fails is told and the others go on."""
    limit = Settings.model_fields["max_image_pixels"].default
    forbid_bombs(limit)
    with readable_errors():
        engine = Engine(source, task=task, device=device)
        info = engine.load()
    failed = False
    for path in images:
        try:
            photo = decode(path.read_bytes(), info.preprocessing, max_pixels=limit, keep_rgb=True)
            (output,) = engine.run([ask(photo, info)]).outputs
        except (OSError, ServiceError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            typer.echo(f"{path}: {reason}", err=True)
            failed = True
            continue
        yield path, photo, info, output
    if failed:
        raise typer.Exit(1)


@contextmanager
def readable_errors() -> Iterator[None]:
    """End the program with one line where a user's own input is at fault."""
    try:
        yield
    except (ValueError, OSError) as error:
        stop(one_line(error), USAGE_ERROR)


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    if isinstance(error, ValidationError):
        parts = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)
        ]
        return "; ".join(parts)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def stop(message: str, status: int) -> NoReturn:
    """Print a line and leave with a status."""
    typer.echo(f"patchserve: {message}", err=True)
    raise typer.Exit(status)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
