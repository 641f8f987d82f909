"""How a run measured its held-out examples, in training.json, so that it can be repeated."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from models.checkpoint.files import is_present
from models.checkpoint.json_files import read_document, write_document
from models.errors import CheckpointError

RECORD = "training.json"
MAX_BATCH = 2**12  # images; a larger number in a file is no batch size


@dataclass(frozen=True)
class Record:
    """The split and the conditions of a measurement; the defaults are those of `train`."""

    seed: int = 1  # of the held-out examples, if the data does not define them
    batch_size: int = 32  # logits differ in their last bits between batch sizes
    at_input_size: bool = False  # label maps are compared at the network's input size


def write_record(folder: Path, record: Record, quality: dict[str, Any]) -> None:
    """Write training.json with the measured quality by name."""
    write_document(folder / RECORD, asdict(record) | {"quality": quality})


def read_record(folder: Path) -> Record | None:
    """Return the record of a checkpoint's folder; None if patchserve did not train it.

    Raises:
        CheckpointError: the file is damaged.
    """
    if not is_present(folder / RECORD):
        return None
    document = read_document(folder / RECORD)
    given = {field.name: document.get(field.name, field.default) for field in fields(Record)}
    for name, value in given.items():
        if type(value) is not type(getattr(Record, name)) or value < 0:
            raise CheckpointError(f"{RECORD}: {name} is not a value like {getattr(Record, name)}")
    if not 1 <= given["batch_size"] <= MAX_BATCH:
        raise CheckpointError(f"{RECORD}: batch_size is not a number from 1 to {MAX_BATCH}")
    return Record(**given)
