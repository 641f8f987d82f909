"""Owns `patchserve explain`: pictures of relevance, and figures of a checkpoint.

Knows nothing of how either comes about.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from app.api import responses
from app.cli.console import Device, Source, readable_errors, stop
from app.cli.predict import run_on
from app.cli.train import bundled_or
from app.core.process import USAGE_ERROR
from app.core.types import Method
from app.engine.interface import EngineOutput, ExplainInput, ModelInfo, Relevance
from app.engine.placement import model_name
from app.imaging.decode import Photo
from models import checkpoint, figures
from models.registry import Network

Figure = Literal["attention-distance", "filters", "positions", "sinusoids"]
OF_NETWORK: Mapping[str | None, Callable[[Network, str], bytes]] = {
    "filters": figures.filters_figure,
    "positions": figures.positions_figure,
    "sinusoids": figures.sinusoids_figure,
}
TOP_K = 5


def explain(
    out: Annotated[Path, typer.Option(help="folder for what is drawn")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="image files", metavar="[IMAGE]...")
    ] = None,
    classifier: Source = "bundled",
    device: Device = "auto",
    method: Annotated[
        Method, typer.Option(help="what speaks for the best label, or all that is heeded")
    ] = "gradient",
    numbers: Annotated[bool, typer.Option("--json", help="write the numbers, too")] = False,
    figure: Annotated[
        Figure | None, typer.Option(help="draw this of the checkpoint instead")
    ] = None,
) -> None:
    """Draw what the labels of images hang on, each as OUT/<name>.relevance.png.

    With --figure, OUT/<figure>.png: the attention distance of the images, or what needs none.
    """
    if not images and figure in (None, "attention-distance"):
        stop("there is nothing to explain: name an image", USAGE_ERROR)
    with readable_errors():
        out.mkdir(parents=True, exist_ok=True)
    if figure in OF_NETWORK:
        with readable_errors():
            loaded = checkpoint.load(bundled_or("classify", classifier))
            drawn = OF_NETWORK[figure](loaded.network, loaded.name)
        write(out / f"{figure}.png", drawn)
        return
    answers = run_on(images or [], classifier, "classify", device, partial(ask, method=method))
    name = model_name(classifier, "classify")
    if figure is not None:
        draw_distances(answers, name, out / f"{figure}.png")
        return
    for path, photo, info, output in answers:
        relevance = cast(Relevance, output)
        write(
            out / f"{path.stem}.relevance.png",
            responses.explanation_png(info, photo, relevance, method),
        )
        if numbers:
            told = responses.explanation_json(name, info, photo, relevance, method)
            write(out / f"{path.stem}.relevance.json", told.model_dump_json().encode())


def ask(photo: Photo, info: ModelInfo, method: Method) -> ExplainInput:
    """What to ask the engine of a photo."""
    return ExplainInput(photo.pixels, min(TOP_K, len(info.labels)), method)


def draw_distances(
    answers: Iterable[tuple[Path, Photo, ModelInfo, EngineOutput]], name: str, target: Path
) -> None:
    """Draw the attention distance of all images together."""
    explained = [(photo.pixels.shape, cast(Relevance, output)) for _, photo, _, output in answers]
    distances = [relevance.attention_distance for _, relevance in explained]
    height, width = explained[0][0][:2]
    with readable_errors():
        write(target, figures.attention_distance_figure(distances, (height, width), name))


def write(target: Path, content: bytes) -> None:
    """Write a file, and say so."""
    with readable_errors():
        target.write_bytes(content)
    typer.echo(target)
