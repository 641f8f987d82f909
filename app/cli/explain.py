"""`patchserve explain`: images with the relevance of their regions, and figures of a checkpoint."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from app.api import responses
from app.cli.answering import Failure, Work, write_result
from app.cli.console import Arch, Device, Labels, Source, readable_errors, stop, write
from app.cli.display import Display
from app.cli.files import ImageFile, find_images, targets
from app.cli.report import Report, WrittenFiles
from app.cli.run_images import Model, run_images
from app.core.process import USAGE_ERROR
from app.core.types import Method
from app.engine.interface import EngineOutput, ExplainInput, ModelInfo, Relevance
from app.engine.placement import LoadOptions, load_options, model_name, resolve_source
from app.imaging.decode import Photo
from models import checkpoint, figures
from models.registry import Network

Distances = tuple[tuple[int, int], list[list[float]]]  # (height, width) of an input, in pixels
Figure = Literal["attention-distance", "filters", "positions", "sinusoids"]
NETWORK_FIGURES: Mapping[str | None, Callable[[Network, str], bytes]] = {
    "filters": figures.filters_figure,
    "positions": figures.positions_figure,
    "sinusoids": figures.sinusoids_figure,
}
TOP_K = 5
CPU_BATCH_SIZE = 8  # images on a core: explanations keep the attention weights of all layers


def explain(  # noqa: PLR0913 - each is a flag
    out: Annotated[Path, typer.Option(help="Folder for the output files")],
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Image files, folders of images, or globs", metavar="IMAGE"),
    ] = None,
    classifier: Source = "bundled",
    labels: Labels = None,
    arch: Arch = "",
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

    An IMAGE is a file, a folder (all images in it and its subfolders) or a glob in quotes. Each
    image becomes OUT/<name>.relevance.png, in the same subfolder of OUT. With --figure, one figure
    is drawn as OUT/<figure>.png instead: attention-distance needs images, the others only the
    checkpoint.
    """
    if not images and figure in (None, "attention-distance"):
        stop("no image is given; name at least one", USAGE_ERROR)
    with readable_errors():
        found = find_images(images or [], out)
        target_of = targets(found, out, ".relevance.png") if figure is None else {}
        out.mkdir(parents=True, exist_ok=True)
    options = load_options(labels, arch)
    if figure in NETWORK_FIGURES:
        draw_network(NETWORK_FIGURES[figure], classifier, options, out / f"{figure}.png")
        return
    with readable_errors():
        name = model_name(classifier, "classify")
    model = Model(classifier, "classify", device, options)
    if figure is not None:
        draw_distances(found, model, name, method, out / f"{figure}.png")
    else:
        draw_explanations(target_of, model, name, method, numbers=numbers)


def draw_explanations(
    target_of: Mapping[Path, Path], model: Model, name: str, method: Method, *, numbers: bool
) -> None:
    """Write the relevance of each image as a PNG; with `numbers`, also as JSON."""

    def explanation(file: Path, photo: Photo, output: EngineOutput, info: ModelInfo) -> None:
        relevance, target = cast(Relevance, output), target_of[file]
        write_result(target, responses.explanation_png(info, photo, relevance, method))
        if numbers:
            body = responses.explanation_json(name, info, photo, relevance, method)
            write_result(target.with_suffix(".json"), body.model_dump_json().encode())

    def report(info: ModelInfo, display: Display) -> AbstractContextManager[Report[None]]:
        return nullcontext(WrittenFiles(display.print, target_of))

    work = Work(input_for(method), explanation, CPU_BATCH_SIZE, keep_rgb=True, large=True)
    run_images(list(target_of), model, work, report)


def input_for(method: Method) -> Callable[[Photo, ModelInfo], ExplainInput]:
    """The function from a photo to the engine's input."""
    return lambda photo, info: ExplainInput(photo.pixels, min(TOP_K, len(info.labels)), method)


def draw_network(
    draw: Callable[[Network, str], bytes], classifier: str, options: LoadOptions, target: Path
) -> None:
    """Draw a figure of a checkpoint, which needs no image."""
    with readable_errors():
        loaded = checkpoint.load(resolve_source(classifier, "classify"), options)
        drawn = draw(loaded.network, loaded.name)
    write(target, drawn)
    typer.echo(target)


class AllDistances:
    """Collects the attention distances of all images that have an answer."""

    def __init__(self) -> None:
        self.found: list[Distances] = []

    def answer(self, file: Path, value: Distances) -> None:
        """Keep the distances of an image."""
        self.found.append(value)

    def failure(self, file: Path, failure: Failure) -> None:
        """Leave out an image."""


def draw_distances(
    found: Sequence[ImageFile], model: Model, name: str, method: Method, target: Path
) -> None:
    """Draw the attention distance over all images that have an answer."""
    with readable_errors():
        figures.require_matplotlib()  # before minutes of work

    def distances(file: Path, photo: Photo, output: EngineOutput, info: ModelInfo) -> Distances:
        return photo.pixels.shape[:2], cast(Relevance, output).attention_distance

    @contextmanager
    def report(info: ModelInfo, display: Display) -> Iterator[AllDistances]:
        every = AllDistances()
        yield every
        if every.found:
            size, _ = every.found[0]
            drawn = [each for _, each in every.found]
            with readable_errors():
                content = figures.attention_distance_figure(drawn, size, name)
            write(target, content)
            display.print(str(target))

    files = [image.path for image in found]
    run_images(files, model, Work(input_for(method), distances, CPU_BATCH_SIZE), report)
