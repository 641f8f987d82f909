"""`patchserve explain`: images with the relevance of their regions, and figures of a checkpoint."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from app.api import responses
from app.cli.console import Device, Source, readable_errors, refuse_equal_names, stop, write
from app.cli.predict import run_on
from app.core.process import USAGE_ERROR
from app.core.types import Method
from app.engine.interface import EngineOutput, ExplainInput, ModelInfo, Relevance
from app.engine.placement import model_name, resolve_source
from app.imaging.decode import Photo
from models import checkpoint, figures
from models.registry import Network

Result = tuple[Path, Photo, ModelInfo, EngineOutput]
Figure = Literal["attention-distance", "filters", "positions", "sinusoids"]
NETWORK_FIGURES: Mapping[str | None, Callable[[Network, str], bytes]] = {
    "filters": figures.filters_figure,
    "positions": figures.positions_figure,
    "sinusoids": figures.sinusoids_figure,
}
TOP_K = 5


def explain(
    out: Annotated[Path, typer.Option(help="Folder for the output files")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files", metavar="IMAGE")
    ] = None,
    classifier: Source = "bundled",
    device: Device = "auto",
    method: Annotated[
        Method,
        typer.Option(
            help="gradient: relevance for the best label; rollout: attention, whatever the label"
        ),
    ] = "gradient",
    numbers: Annotated[
        bool, typer.Option("--json", help="Also write the numbers, as JSON")
    ] = False,
    figure: Annotated[
        Figure | None, typer.Option(help="Draw this figure of the checkpoint instead")
    ] = None,
) -> None:
    """Draw the relevance of image regions for the best label.

    Each image becomes OUT/<name>.relevance.png. With --figure, one figure is drawn as
    OUT/<figure>.png instead: attention-distance needs images, the others only the checkpoint.
    """
    if not images and figure in (None, "attention-distance"):
        stop("no image is given; name at least one", USAGE_ERROR)
    if images and figure is None:
        refuse_equal_names(images)
    with readable_errors():
        out.mkdir(parents=True, exist_ok=True)
    if figure in NETWORK_FIGURES:
        draw_network(NETWORK_FIGURES[figure], classifier, out / f"{figure}.png")
        return
    results = run_on(
        images or [], classifier, "classify", device, partial(make_input, method=method)
    )
    name = model_name(classifier, "classify")
    if figure is not None:
        draw_distances(results, name, out / f"{figure}.png")
        return
    for result in results:
        write_explanation(result, out, name, method, numbers=numbers)


def make_input(photo: Photo, info: ModelInfo, method: Method) -> ExplainInput:
    """The engine's input for a photo."""
    return ExplainInput(photo.pixels, min(TOP_K, len(info.labels)), method)


def write_explanation(
    result: Result, out: Path, name: str, method: Method, *, numbers: bool
) -> None:
    """Write the relevance of one image as a PNG; with `numbers`, also as JSON."""
    path, photo, info, output = result
    relevance = cast(Relevance, output)
    write_and_print(
        out / f"{path.stem}.relevance.png",
        responses.explanation_png(info, photo, relevance, method),
    )
    if numbers:
        body = responses.explanation_json(name, info, photo, relevance, method)
        write_and_print(out / f"{path.stem}.relevance.json", body.model_dump_json().encode())


def draw_network(draw: Callable[[Network, str], bytes], classifier: str, target: Path) -> None:
    """Draw a figure of a checkpoint, which needs no image."""
    with readable_errors():
        loaded = checkpoint.load(resolve_source(classifier, "classify"))
        drawn = draw(loaded.network, loaded.name)
    write_and_print(target, drawn)


def draw_distances(results: Iterable[Result], name: str, target: Path) -> None:
    """Draw the attention distance over all images."""
    explained = [(photo.pixels.shape, cast(Relevance, output)) for _, photo, _, output in results]
    distances = [relevance.attention_distance for _, relevance in explained]
    height, width = explained[0][0][:2]
    with readable_errors():
        write_and_print(target, figures.attention_distance_figure(distances, (height, width), name))


def write_and_print(target: Path, content: bytes) -> None:
    """Write a file and print its path."""
    write(target, content)
    typer.echo(target)
