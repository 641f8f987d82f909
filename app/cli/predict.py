"""`patchserve classify` and `patchserve segment`: run the engine on files, without HTTP."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, cast

import typer

from app.api import responses
from app.api.drawing import STYLES
from app.cli.answering import Work, write_result
from app.cli.console import Arch, Device, Images, Labels, Source, readable_errors, stop
from app.cli.display import Display
from app.cli.files import find_images, targets
from app.cli.label_form import LabelForm
from app.cli.report import Body, JsonLines, Report, WrittenFiles
from app.cli.run_images import Model, run_images
from app.core.process import USAGE_ERROR
from app.engine.interface import (
    ClassifyInput,
    EngineOutput,
    ModelInfo,
    Ranking,
    Segmentation,
    SegmentInput,
)
from app.engine.placement import load_options, model_name
from app.imaging.decode import Photo
from app.imaging.overlay import AUTO, OPACITY, Overlay, background_class

# Images of a batch on a core. Small ViTs are fastest with 16, and for ViT-B/16 the size makes no
# difference. The activations of a SegFormer are larger.
CLASSIFY_BATCH, SEGMENT_BATCH = 16, 4
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object on a line per image")]


def classify(  # noqa: PLR0913 - each is a flag
    images: Images,
    classifier: Source = "bundled",
    labels: Labels = None,
    arch: Arch = "",
    device: Device = "auto",
    top_k: Annotated[int, typer.Option(min=1, help="Maximum number of labels")] = 5,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Leave out labels with a lower score")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a CSV row per label")] = False,
    out: Annotated[
        Path | None, typer.Option(help="File for the results instead: NAME.jsonl or NAME.csv")
    ] = None,
) -> None:
    """Print the labels of images, best first.

    An IMAGE is a file, a folder (all images in it and its subfolders) or a glob in quotes.
    """
    with readable_errors():
        form = LabelForm(as_json, as_csv, out).checked()
        files = [image.path for image in find_images(images)]
        name = model_name(classifier, "classify")

    def make_input(photo: Photo, info: ModelInfo) -> ClassifyInput:
        return ClassifyInput(photo.pixels, min(top_k, len(info.labels)))

    def answer(file: Path, photo: Photo, output: EngineOutput, info: ModelInfo) -> Body:
        predictions = responses.predictions(info, cast(Ranking, output))
        if threshold is not None:
            predictions = [each for each in predictions if each["score"] >= threshold]
        return {"model": name, "predictions": predictions}

    def report(info: ModelInfo, display: Display) -> AbstractContextManager[Report[Body]]:
        if threshold is not None and info.problem_type == "regression":
            stop(f"--threshold is for scores from 0 to 1; {name} predicts values", USAGE_ERROR)
        return form.report(files, info, display.print)

    run_images(
        files,
        Model(classifier, "classify", device, load_options(labels, arch)),
        Work(make_input, answer, CLASSIFY_BATCH),
        report,
    )


def segment(  # noqa: PLR0913 - each is a flag
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder for the masks")],
    segmenter: Source = "bundled",
    labels: Labels = None,
    arch: Arch = "",
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
    as_json: AsJson = False,
) -> None:
    """Write the mask of each image as OUT/<name>.<render>.png.

    An IMAGE is a file, a folder (all images in it and its subfolders) or a glob in quotes. In OUT,
    the masks have the same subfolders.
    """
    if render not in STYLES:
        stop(f"--render must be one of {', '.join(STYLES)}", USAGE_ERROR)
    if render != "overlay" and (opacity, background) != (None, None):
        stop("--opacity and --background need --render overlay", USAGE_ERROR)
    with readable_errors():
        target_of = targets(find_images(images, out), out, f".{render}.png")
        out.mkdir(parents=True, exist_ok=True)
        name = model_name(segmenter, "segment")
    confidence = as_json or render == "confidence"
    alpha, unpainted = OPACITY if opacity is None else opacity, background or AUTO

    def make_input(photo: Photo, info: ModelInfo) -> SegmentInput:
        return SegmentInput(photo.pixels, (photo.height, photo.width), confidence)

    def mask(file: Path, photo: Photo, output: EngineOutput, info: ModelInfo) -> Body:
        found = cast(Segmentation, output)
        body = segments(name, found, info) if as_json else {}
        overlay = Overlay(alpha, background_class(unpainted, info.labels))
        write_result(target_of[file], responses.segment_png(info, render, photo, found, overlay))
        return body

    work = Work(make_input, mask, SEGMENT_BATCH, keep_rgb=render == "overlay", large=True)

    def report(info: ModelInfo, display: Display) -> AbstractContextManager[Report[Body]]:
        with readable_errors():
            background_class(unpainted, info.labels)  # before the first image
        return nullcontext(
            JsonLines(display.print) if as_json else WrittenFiles(display.print, target_of)
        )

    run_images(
        list(target_of),
        Model(segmenter, "segment", device, load_options(labels, arch)),
        work,
        report,
    )


def segments(name: str, found: Segmentation, info: ModelInfo) -> Body:
    """The service's response to /segment, without the mask."""
    height, width = found.labels.shape
    listed = responses.segments(info, found)
    return {
        "model": name,
        "width": width,
        "height": height,
        "segments": [each.model_dump(mode="json", exclude_unset=True) for each in listed],
    }
