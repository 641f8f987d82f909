"""The evaluation: both checkpoints on scenes they have not seen, as tables and as pictures.

Does not know how they were trained.
"""

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models import checkpoint
from models.checkpoint import Checkpoint
from models.registry import Task
from models.training.bundled.metrics import answers, measure
from models.training.confusion import Confusion
from models.training.scenes.plots import Answer, confusion_picture, sheet
from models.training.scenes.scene import UNSEEN_SEED, Scene, draw_scene

SHOWN = 18  # scenes on the sheet


@dataclass(frozen=True)
class Quality:
    """What was counted: scenes by the classifier's answer, pixels by the segmenter's."""

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
    """Measure and print both checkpoints' quality on the first `count` scenes of a seed.

    With `out`, also write the confusion matrix and a sheet of the first scenes as pictures there.
    ValueError for a checkpoint of the other task, or with other labels than the scenes'.
    """
    console = console or Console()
    both = load("classify", classifier), load("segment", segmenter)
    indices = track(range(count), "drawing", console=console, transient=True)
    scenes = [draw_scene(seed, index) for index in indices]
    with console.status("asking the networks"):
        quality = Quality(measure(both[0], scenes), measure(both[1], scenes))
    show(quality, console, f"{count} scenes of seed {seed}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        confusion_picture(quality.scenes).save(out / "confusion.png", optimize=True)
        sheet(answered(*both, scenes[:SHOWN])).save(out / "scenes.png", optimize=True)
        console.print(f"pictures: {out / 'confusion.png'}, {out / 'scenes.png'}")
    return quality


def load(task: Task, source: str | Path) -> Checkpoint:
    """The checkpoint; ValueError when it is for another task."""
    loaded = checkpoint.load(source)
    if loaded.task != task:
        raise ValueError(f"{source} is for the task {loaded.task}, not {task}")
    return loaded


def answered(classifier: Checkpoint, segmenter: Checkpoint, scenes: list[Scene]) -> list[Answer]:
    """What both say of some scenes."""
    kinds, maps = answers(classifier, scenes), answers(segmenter, scenes)
    return [
        Answer(scene, int(kind[0]), label_map)
        for scene, kind, label_map in zip(scenes, kinds, maps, strict=True)
    ]


def show(quality: Quality, console: Console, title: str) -> None:
    """Print the figures: overall, by label, and who is taken for whom."""
    console.print(f"[bold]{title}[/bold]")
    console.print(f"accuracy {quality.accuracy:.4f}   mean IoU {quality.mean_iou:.4f}")
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
