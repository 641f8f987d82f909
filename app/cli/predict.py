"""`patchserve classify` and `patchserve segment`: run the engine on files, without HTTP."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, cast

import typer

from app.api import responses
from app.api.drawing import STYLES
from app.cli.console import (
    Device,
    Images,
    Source,
    one_line,
    readable_errors,
    refuse_equal_names,
    stop,
    write,
)
from app.core.errors import ServiceError
from app.core.malloc import keep_freed_memory
from app.core.process import USAGE_ERROR
from app.core.settings import Settings
from app.core.types import Task
from app.engine.engine import TorchEngine
from app.engine.interface import (
    ClassifyInput,
    EngineInput,
    EngineOutput,
    ModelInfo,
    OutOfMemory,
    Ranking,
    Segmentation,
    SegmentInput,
)
from app.imaging.decode import Photo, decode, limit_pillow_pixels, silence_libtiff
from app.imaging.overlay import AUTO, OPACITY, Overlay, background_class


def classify(
    images: Images,
    classifier: Source = "bundled",
    device: Device = "auto",
    top_k: Annotated[int, typer.Option(min=1, help="Maximum number of labels")] = 5,
) -> None:
    """Print the labels of images, best first."""

    def make_input(photo: Photo, info: ModelInfo) -> ClassifyInput:
        return ClassifyInput(photo.pixels, min(top_k, len(info.labels)))

    for path, _, info, output in run_on(images, classifier, "classify", device, make_input):
        ranking = cast(Ranking, output)
        best = zip(ranking.indices, ranking.scores, strict=True)
        typer.echo(f"{path}: " + ", ".join(f"{info.labels[i]} {score:.4f}" for i, score in best))


def segment(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder for the masks")],
    segmenter: Source = "bundled",
    device: Device = "auto",
    render: Annotated[str, typer.Option(help="mask, color, overlay or confidence")] = "mask",
    opacity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the overlay's colors; 0.5 by default")
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            help="Class that the overlay leaves unpainted: auto (by the label), none, a label or "
            "an index"
        ),
    ] = None,
) -> None:
    """Write the mask of each image as OUT/<name>.<render>.png."""
    if render not in STYLES:
        stop(f"--render must be one of {', '.join(STYLES)}", USAGE_ERROR)
    if render != "overlay" and (opacity, background) != (None, None):
        stop("--opacity and --background need --render overlay", USAGE_ERROR)
    refuse_equal_names(images)
    with readable_errors():
        out.mkdir(parents=True, exist_ok=True)

    def make_input(photo: Photo, info: ModelInfo) -> SegmentInput:
        return SegmentInput(photo.pixels, (photo.height, photo.width), render == "confidence")

    for path, photo, info, output in run_on(images, segmenter, "segment", device, make_input):
        target = out / f"{path.stem}.{render}.png"
        with readable_errors():
            unpainted = background_class(background or AUTO, info.labels)
        overlay = Overlay(OPACITY if opacity is None else opacity, unpainted)
        found = cast(Segmentation, output)
        write(target, responses.segment_png(info, render, photo, found, overlay))
        typer.echo(f"{path}: {target}")


def run_on(
    images: list[Path],
    source: str,
    task: Task,
    device: str,
    make_input: Callable[[Photo, ModelInfo], EngineInput],
) -> Iterator[tuple[Path, Photo, ModelInfo, EngineOutput]]:
    """Run the engine on image files, one after the other.

    An image that fails is reported on standard error, and the others continue; the exit status is
    then 1.
    """
    limit = Settings.model_fields["max_image_pixels"].default
    limit_pillow_pixels(limit)
    silence_libtiff()
    keep_freed_memory()
    with readable_errors():
        engine = TorchEngine(source, task=task, device=device)
        info = engine.load()
    failed = False
    for path in images:
        try:
            photo = decode(path.read_bytes(), info.preprocessing, max_pixels=limit, keep_rgb=True)
            (output,) = engine.run([make_input(photo, info)]).outputs
        except (OSError, ServiceError, OutOfMemory) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            typer.echo(f"{path}: {reason}", err=True)
            failed = True
            continue
        yield path, photo, info, output
    if failed:
        raise typer.Exit(1)
