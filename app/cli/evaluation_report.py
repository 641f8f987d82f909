"""The quality of a checkpoint as a table for people, and as a document for programs."""

from math import isnan
from typing import Any

from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from app.cli.console import printable
from app.core.types import Task
from models.training import Confusion, Evaluation

NAMES = {  # of the overall figures
    "accuracy": "accuracy",
    "top_5_accuracy": "top-5 accuracy",
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
}


def document(evaluation: Evaluation, data: str, split: str) -> dict[str, Any]:
    """Return the evaluation as plain values; what is not defined is None."""
    checkpoint, examples = evaluation.checkpoint, evaluation.examples
    return {
        "checkpoint": checkpoint.name,
        "task": checkpoint.task,
        "data": data,
        "split": split,
        "seed": evaluation.record.seed,
        "at_input_size": evaluation.record.at_input_size,
        "images": len(examples),
        "left_out": len(examples.left_out),
        **quality_of(checkpoint.task, evaluation.confusion),
    }


def quality_of(task: Task, confusion: Confusion) -> dict[str, Any]:
    """Return the overall quality, that of each label that occurs, and their confusion matrix."""
    occurring = confusion.occurring()
    columns = columns_of(task, occurring)
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return {
        **confusion.summary(task),
        "labels": [
            {"label": label} | dict(zip(columns, map(defined, row), strict=True))
            for label, row in zip(occurring.labels, rows, strict=True)
        ],
        "confusion": occurring.counts.tolist(),
    }


def show(evaluation: Evaluation, data: str, console: Console) -> None:
    """Print what was measured, the overall quality, and a row for each label that occurs."""
    checkpoint, examples = evaluation.checkpoint, evaluation.examples
    confusion = evaluation.confusion.occurring()
    where = ", at the network's input size" if evaluation.record.at_input_size else ""
    lines = [
        f"{checkpoint.name} on {data}: {len(examples):,} images ({examples.about}){where}",
        "   ".join(
            f"{NAMES[name]} {value:.4f}"
            for name, value in evaluation.confusion.summary(checkpoint.task).items()
        ),
    ]
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    columns = columns_of(checkpoint.task, confusion)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("label", overflow="fold")
    for name in columns:
        table.add_column(name.replace("_", " ").replace("iou", "IoU"), justify="right")
    for index, label in enumerate(confusion.labels):
        cells = [text(values[index]) for values in columns.values()]
        table.add_row(printable(label).replace("[", r"\["), *cells)
    if others := len(checkpoint.labels) - len(confusion.labels):
        table.caption = f"{others:,} other labels are neither in the data nor predicted"
    console.print(table)


def columns_of(task: Task, confusion: Confusion) -> dict[str, NDArray[Any]]:
    """Return the figures of each label, by name."""
    if task == "segment":
        return {
            "iou": confusion.iou,
            "accuracy": confusion.recall,
            "pixels": confusion.support,
        }
    return {
        "precision": confusion.precision,
        "recall": confusion.recall,
        "f1": confusion.f1,
        "support": confusion.support,
    }


def defined(value: float) -> float | None:
    """Return the value, or None if it is not a number."""
    return None if isnan(value) else value


def text(value: Any) -> str:
    """Return a cell of the table: a count, a fraction, or a dash for one that is not defined."""
    if isinstance(value.item(), int):
        return f"{value:,}"
    return "-" if isnan(value) else f"{value:.4f}"
