"""Measures a checkpoint on a folder of images, as a training run measures its network."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.checkpoint import (
    DEFAULT_OPTIONS,
    Checkpoint,
    CheckpointError,
    LoadOptions,
    load,
    name_of,
    path_of,
    require_rgb,
)
from models.preprocessing import Preprocessing
from models.registry import Task
from models.training.confusion import Confusion
from models.training.data.sources import Examples, Part, data_labels, open_split
from models.training.evaluation.label_match import Relabeled, matched
from models.training.fitting.evaluate import measure
from models.training.fitting.fit import select_device
from models.training.fitting.progress import Watcher
from models.training.fitting.record import Record, read_record

PIXELS = 32 * 224**2  # of the images of a batch, unless a run has recorded its batch size


@dataclass(frozen=True)
class Evaluation:
    """The quality of a checkpoint on a part of the data."""

    checkpoint: Checkpoint
    examples: Examples
    record: Record  # the conditions of the measurement
    confusion: Confusion  # its labels are those of the checkpoint


def evaluate_data(  # noqa: PLR0913 - each is a flag of the command
    source: str | Path,
    data: str,
    task: Task,
    *,
    part: Part = "val",
    seed: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    load_options: LoadOptions = DEFAULT_OPTIONS,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Measure a checkpoint on a part of the data; both as `train` takes them.

    The result equals that of the run that trained the checkpoint, on the same data and device: the
    split, the batches and the size of the comparison are those that the run recorded.

    Args:
        source: of the checkpoint.
        data: a folder, or scenes.
        task: of the checkpoint.
        part: of the data.
        seed: of the split; None for that of the run, or of `train`'s default.
        batch_size: in images; None for that of the run, or for one that fits the input size.
        device: for the network.
        load_options: for `models.checkpoint.load`.
        watcher: of the progress.

    Raises:
        ValueError, OSError: the checkpoint or the data cannot be used, or their labels differ.
    """
    watcher = watcher or Watcher()
    where = select_device(device)
    loaded, record = opened(source, task, load_options)
    if loaded.preprocessing.input_size is None:  # images of several sizes make no batch
        batch_size = 1
    record = replace(
        record,
        seed=record.seed if seed is None else seed,
        batch_size=batch_size or record.batch_size,
    )
    table = matched(data_labels(data, task), loaded)
    examples = open_split(data, task, part, seed=record.seed, watch=watcher.checking)
    watcher.left_out(examples.left_out)
    try:
        confusion = measure(
            loaded.network.to(where),
            Relabeled(examples.datasets, table),
            loaded.labels,
            loaded.preprocessing,
            batch_size=record.batch_size,
            at_input_size=record.at_input_size,
            watch=watcher.measuring,
        )
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"a batch of {record.batch_size} images does not fit into the memory of {where}: "
            "set a smaller --batch-size"
        ) from error
    if not confusion.total:
        raise ValueError(f"no pixel of the {len(examples)} masks in {data} has a label")
    return Evaluation(loaded, examples, record, confusion)


def opened(source: str | Path, task: Task, options: LoadOptions) -> tuple[Checkpoint, Record]:
    """Load the checkpoint, and read how its run has measured it, if patchserve trained it.

    Raises:
        CheckpointError: it cannot be loaded, or is for another task.
    """
    folder = path_of(source)
    loaded = replace(load(folder, options), name=name_of(source))
    require_rgb(loaded)
    if loaded.task != task:
        raise CheckpointError(f"{loaded.name} is a model to {loaded.task}, not to {task}")
    return loaded, read_record(folder) or Record(batch_size=batch_size_for(loaded.preprocessing))


def batch_size_for(preprocessing: Preprocessing) -> int:
    """Return the number of images that have PIXELS at the network's input size, at most 32."""
    height, width = preprocessing.input_size or (0, 0)
    return max(1, min(Record.batch_size, PIXELS // max(1, height * width)))
