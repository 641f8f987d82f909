"""The quality of two checkpoints on generated scenes, as tables and as images."""

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models import checkpoint
from models.checkpoint import Checkpoint
from models.registry import Task
from models.training.confusion import Confusion
from models.training.data.scenes import DrawnScenes
from models.training.evaluation.label_match import few
from models.training.fitting.evaluate import measure, predictions
from models.training.scenes.plots import ScenePrediction, confusion_plot, sheet
from models.training.scenes.scene import LABELS, UNSEEN_SEED
from models.training.scenes.shapes import KINDS

BATCH_SIZE = 50  # scenes
SHOWN = 18  # scenes on the sheet


@dataclass(frozen=True)
class Quality:
    """The predictions of both: scenes by the classifier, pixels by the segmenter."""

    scenes: Confusion
    pixels: Confusion

    @property
    def accuracy(self) -> float:
        return self.scenes.accuracy

    @property
    def mean_iou(self) -> float:
        return self.pixels.mean_iou


def evaluate(
    classifier: str | Path,
    segmenter: str | Path,
    *,
    seed: int = UNSEEN_SEED,
    count: int = 2_000,
    out: Path | None = None,
    console: Console | None = None,
) -> Quality:
    """Measure and print the quality of both checkpoints on the first `count` scenes of a seed.

    With `out`, also write the confusion matrix and a sheet of the first scenes there, as PNG.

    Raises:
        ValueError: a checkpoint of the other task, with other labels than the scenes', or that does
            not resize each image to one size without a crop.
    """
    console = console or Console()
    pair = load("classify", classifier, KINDS), load("segment", segmenter, LABELS)
    scenes = DrawnScenes("classify", seed, range(count))
    for index in track(range(count), "drawing", console=console, transient=True):
        scenes.read(index)
    maps = DrawnScenes("segment", seed, scenes.indices, scenes.kept)
    with console.status("evaluating"):
        quality = Quality(measured(pair[0], scenes), measured(pair[1], maps))
    show(quality, console, f"{count} scenes of seed {seed}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        confusion_plot(quality.scenes).save(out / "confusion.png", optimize=True)
        sheet(answers(*pair, scenes, maps)).save(out / "scenes.png", optimize=True)
        console.print(f"pictures: {out / 'confusion.png'}, {out / 'scenes.png'}")
    return quality


def load(task: Task, source: str | Path, labels: tuple[str, ...]) -> Checkpoint:
    """Return the checkpoint; ValueError as in `evaluate`."""
    loaded = checkpoint.load(source)
    if loaded.task != task:
        raise ValueError(f"{source} is for the task {loaded.task}, not {task}")
    if loaded.labels != labels:
        raise ValueError(
            f"{loaded.name} has the labels {few(loaded.labels)}, not those of the "
            f"scenes ({few(labels)}): measure it on your own images, --data FOLDER"
        )
    if loaded.preprocessing.crop_size is not None or loaded.preprocessing.size is None:
        raise ValueError(f"{loaded.name} does not resize each image to one size without a crop")
    return loaded


def measured(loaded: Checkpoint, scenes: DrawnScenes) -> Confusion:
    """Count the checkpoint's predictions for the scenes."""
    return measure(
        loaded.network, scenes, loaded.labels, loaded.preprocessing, batch_size=BATCH_SIZE
    )


def answers(
    classifier: Checkpoint, segmenter: Checkpoint, scenes: DrawnScenes, maps: DrawnScenes
) -> list[ScenePrediction]:
    """Return the predictions of both for the first scenes."""
    shown = range(min(SHOWN, len(scenes)))
    kinds, label_maps = (
        predictions(one.network, dataset.take(shown), one.preprocessing, BATCH_SIZE)
        for one, dataset in ((classifier, scenes), (segmenter, maps))
    )
    return [
        ScenePrediction(scenes.kept[index], int(kind[0]), label_map)
        for index, (_, kind), (_, label_map) in zip(shown, kinds, label_maps, strict=True)
    ]


def show(quality: Quality, console: Console, title: str) -> None:
    """Print the quality: overall, by label, and the confusion matrix."""
    console.print(f"[bold]{title}[/bold]")
    console.print(
        f"accuracy {quality.accuracy:.4f}   mean IoU {quality.mean_iou:.4f}   "
        f"pixel accuracy {quality.pixels.accuracy:.4f}"
    )
    table = Table(
        "label",
        "recall",
        "IoU",
        *quality.scenes.labels,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.caption = "recall and the counts: scenes, by the largest shape; IoU: pixels"
    table.add_row("background", "", f"{quality.pixels.iou[0]:.3f}")
    for row, kind in enumerate(quality.scenes.labels):
        counts = [str(count) if count else "·" for count in quality.scenes.counts[row]]
        figures = f"{quality.scenes.recall[row]:.3f}", f"{quality.pixels.iou[row + 1]:.3f}"
        table.add_row(kind, *figures, *counts)
    console.print(table)
