"""The labels of a network's outputs: from config.json, from a file of labels, or numbered."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown  # of limited length and depth
from typing import Any, NamedTuple

from models.checkpoint.files import is_present
from models.errors import CheckpointError

MAX_LABELS = 2**17
MAX_LABELS_BYTES = 10**6  # of a file of labels
DEFAULT_COUNT = 2  # of transformers, if config.json has neither labels nor their number
CONFIG, LABELS_FILE = "config.json", "labels.txt"  # where names are; the latter beside the weights
INDEX = re.compile(r"(?:LABEL_)?(\d{1,7})", re.ASCII)
SURROGATES = re.compile("[\ud800-\udfff]")  # JSON can escape half a character; UTF-8 cannot


class Labels(NamedTuple):
    """A label for each output by its index, and what was assumed, one sentence each."""

    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def labels_of(
    document: Mapping[str, Any], outputs: int | None = None, folder: Path | None = None
) -> Labels:
    """Return the labels of a checkpoint.

    They come from `id2label`, else from `label2id`, else from labels.txt, else they are LABEL_0,
    LABEL_1 and so on. Names whose number is not that of the outputs belong to another head, so the
    labels are numbered then, too, as in transformers.

    Args:
        document: the contents of config.json.
        outputs: the number of outputs of the stored head; None if the head is not found. Then it is
            `num_labels`, else the number of names, else 2.
        folder: where labels.txt may be.

    Raises:
        CheckpointError: a field or the file is invalid.
    """
    source, names = names_of(document, folder)
    stated = document.get("num_labels")
    count = checked_count(outputs or stated or len(names) or DEFAULT_COUNT)
    warnings = []
    if stated is not None and checked_count(stated) != count:
        warnings.append(
            f"num_labels is {stated}, but the network has {count} outputs, which decide; correct "
            "num_labels in config.json"
        )
    if len(names) != count:
        reason, remedy = (
            (f"{source} names {len(names)} of {count} outputs", f"correct {source}")
            if names
            else ("no file names them", f"write them to {LABELS_FILE} beside the weights")
        )
        warnings.append(
            f"the labels are numbered from LABEL_0, because {reason}; {remedy}, or give a labels "
            "file with one label a line"
        )
        names = tuple(f"LABEL_{index}" for index in range(count))
    return Labels(names, tuple(warnings))


def labels_in(path: Path, outputs: int | None) -> Labels:
    """Return the labels of a file that the user gives.

    Args:
        path: the file: one label a line.
        outputs: the number of outputs of the stored head; None if the head is not found.

    Raises:
        CheckpointError: the file cannot be read, or the network has another number of outputs.
    """
    names = read_labels(path.expanduser())
    checked_count(len(names))
    if outputs is not None and len(names) != outputs:
        raise CheckpointError(
            f"{path} has {len(names)} labels for {outputs} outputs of the network; "
            "give one label a line for each output"
        )
    return Labels(names)


def names_of(document: Mapping[str, Any], folder: Path | None) -> tuple[str, tuple[str, ...]]:
    """Return the file that names the labels, and the names; both empty if there is none."""
    if names := document.get("id2label"):
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, dict):
            raise invalid("id2label", names, "a JSON object from indices to names, or a list")
        pairs = [(index_of(index), name) for index, name in names.items()]
        return CONFIG, by_index("id2label", pairs)
    if indices := document.get("label2id"):
        if not isinstance(indices, dict):
            raise invalid("label2id", indices, "a JSON object from names to indices")
        pairs = [(index_of(index), name) for name, index in indices.items()]
        return CONFIG, by_index("label2id", pairs)
    if folder is not None and is_present(folder / LABELS_FILE):
        return LABELS_FILE, read_labels(folder / LABELS_FILE)
    return "", ()


def by_index(field: str, pairs: Sequence[tuple[int | None, object]]) -> tuple[str, ...]:
    """Return the names in the order of their indices, which must be 0, 1, 2 and so on."""
    names = {index: text_of(field, name) for index, name in pairs}
    checked_count(len(pairs))
    if names.keys() != set(range(len(pairs))):
        raise CheckpointError(
            f"config.json: {field} does not number its {len(pairs)} labels from 0 without gaps; "
            "correct it, or give a labels file with one label a line"
        )
    return tuple(names[index] for index in range(len(pairs)))


def index_of(raw: object) -> int | None:
    """Return the index that an integer, or a text such as "1", "01" or "LABEL_1", stands for."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    match = INDEX.fullmatch(raw) if isinstance(raw, str) else None
    return int(match[1]) if match else None


def text_of(field: str, raw: object) -> str:
    """Check a name; an integer becomes its digits."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return str(raw)
    if not isinstance(raw, str) or SURROGATES.search(raw):
        raise invalid(field, raw, "the text of a name")
    return raw


def checked_count(raw: object) -> int:
    """Check a number of labels."""
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 < raw <= MAX_LABELS:
        raise invalid("num_labels", raw, f"an integer from 1 to {MAX_LABELS}")
    return raw


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the labels of a file: one a line, without the spaces around them.

    Raises:
        CheckpointError: the file is missing, too large or not UTF-8, or has an empty line before
            the last label.
    """
    if not is_present(path):
        raise CheckpointError(f"the labels file {path} does not exist")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LABELS_BYTES + 1)
        if len(content) > MAX_LABELS_BYTES:
            raise CheckpointError(f"{path.name} has more than {MAX_LABELS_BYTES} bytes")
        text = content.decode("utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name} cannot be read as UTF-8: {error}") from error
    names = tuple(line.strip() for line in text.split("\n"))
    if "" in names:
        raise CheckpointError(f"{path.name}: line {names.index('') + 1} has no label")
    return names


def invalid(name: str, raw: object, expected: str) -> CheckpointError:
    """Return the error for a field with an invalid value."""
    return CheckpointError(f"config.json: {name} is {shown(raw)}, not {expected}")
