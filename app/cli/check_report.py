"""What `patchserve check` prints of a checkpoint that can be served, for people and programs."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from math import isclose
from typing import Any

from app.core.types import Task
from app.engine.check import Trial
from app.engine.placement import LoadOptions
from models.preprocessing import Color, Preprocessing

FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
FLAGS: dict[Task, str] = {"classify": "--classifier", "segment": "--segmenter"}
NAMED, LONGEST = 5, 40  # labels that are shown, and characters of each
WIDTH = 15  # characters of the first column


def document(trial: Trial, seconds: float) -> dict[str, Any]:
    """Return the report as plain values; `seconds` is the duration of the whole check."""
    info = trial.info
    return {
        "name": trial.name,
        "task": info.task,
        "architecture": trial.architecture,
        "parameters": info.parameters,
        "stored_dtypes": list(trial.stored_dtypes),
        "labels": {"count": len(info.labels), "first": list(info.labels[:NAMED])},
        "problem_type": info.problem_type if info.task == "classify" else None,
        "preprocessing": asdict(info.preprocessing)
        | {"resample": FILTERS[info.preprocessing.resample], "assumed": info.preprocessing_assumed},
        "warnings": list(trial.warnings),
        "device": info.device,
        "dtype": info.dtype,
        "runtime": info.runtime,
        "input_size": list(trial.input_size),
        "forward_ms": round(1000 * trial.forward_s, 3),
        "finite": True,
        "seconds": round(seconds, 3),
    }


def block(source: str, trial: Trial, seconds: float, options: LoadOptions) -> list[str]:
    """Return the lines of a readable report; `options` are those of the load."""
    info = trial.info
    height, width = trial.input_size
    where = "assumed" if info.preprocessing_assumed else "from the checkpoint"
    rows = {
        "architecture": f"{trial.architecture}, {info.parameters:,} parameters, "
        f"stored as {', '.join(trial.stored_dtypes)}",
        "task": task_text(trial),
        "labels": labels_text(info.labels),
        "preprocessing": f"{preprocessing_text(info.preprocessing)} ({where})",
        "runs": f"in {info.dtype} on {info.device}, by {info.runtime}",
        "forward pass": f"{1000 * trial.forward_s:.1f} ms for an image of {width} x {height} "
        "pixels; the output is finite",
    }
    lines = [f"  {name:<{WIDTH}}{text}" for name, text in rows.items()]
    lines += [f"  {'note':<{WIDTH}}{warning}" for warning in trial.warnings]
    command = shlex.join(["patchserve", "serve", *flags(source, info.task, options)])
    return [*lines, f"  {'serve it':<{WIDTH}}{command}", f"  checked in {seconds:.1f} s"]


def flags(source: str, task: Task, options: LoadOptions) -> list[str]:
    """Return the flags that serve a checkpoint as it was loaded."""
    words = [FLAGS[task], source]
    if options.labels_file is not None:
        words += [f"{FLAGS[task]}-labels", str(options.labels_file)]
    if options.arch and task == "classify":
        words += ["--arch", options.arch]
    return [*words, "--strict"] if options.strict else words


def task_text(trial: Trial) -> str:
    """Say what the model does, and what the scores of a classifier mean."""
    if trial.info.task == "segment":
        return "segment"
    return f"classify ({trial.info.problem_type.replace('_', ' ')})"


def labels_text(labels: Sequence[str]) -> str:
    """Return the number of labels and the first of them."""
    names = [label if len(label) <= LONGEST else f"{label[:LONGEST]}..." for label in labels]
    shown = [*names[:NAMED], *(["..."] if len(labels) > NAMED else [])]
    separator = "; " if any("," in name for name in names[:NAMED]) else ", "
    return f"{len(labels):,}: {separator.join(shown)}"


def preprocessing_text(preprocessing: Preprocessing) -> str:
    """Describe the steps in their order."""
    steps = [resize_text(preprocessing)]
    if preprocessing.crop_size is not None:
        height, width = preprocessing.crop_size
        steps.append(f"center crop to {width} x {height}")
    if (factor := preprocessing.rescale_factor) is not None:
        steps.append("values / 255" if isclose(factor, 1 / 255) else f"values x {factor:g}")
    if preprocessing.mean is not None and preprocessing.std is not None:
        steps.append(f"mean {color_text(preprocessing.mean)}")
        steps.append(f"std {color_text(preprocessing.std)}")
    return ", ".join(steps)


def resize_text(preprocessing: Preprocessing) -> str:
    """Describe the resize."""
    filter_name = FILTERS[preprocessing.resample]
    if preprocessing.size is not None:
        height, width = preprocessing.size
        return f"resize to {width} x {height} ({filter_name})"
    if (shortest := preprocessing.shortest_edge) is None:
        return "no resize"
    longest = preprocessing.longest_edge
    limit = "" if longest is None else f", longest to at most {longest}"
    return f"resize shortest edge to {shortest}{limit} ({filter_name})"


def color_text(color: Color) -> str:
    """Return one number for equal channels, else three."""
    numbers = [f"{value:g}" for value in color]
    return numbers[0] if len(set(numbers)) == 1 else " ".join(numbers)
