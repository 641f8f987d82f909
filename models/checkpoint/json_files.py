"""Reading and writing the JSON files of a checkpoint folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.checkpoint.files import is_present
from models.errors import CheckpointError

MAX_JSON_BYTES = 2**23  # the labels of ImageNet-21k take 2 MB; parsed values take up to 20 times it


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object. CheckpointError if the file is missing, unreadable or not an object."""
    if not is_present(path):
        raise CheckpointError(f"{path.name} cannot be read: no such file in {path.parent}")
    try:
        document = json.loads(read_text(path))
    except CheckpointError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path.name} is not a JSON object")
    return document


def read_text(path: Path) -> str:
    """Return the text of a file. CheckpointError if it has more than MAX_JSON_BYTES."""
    with path.open("rb") as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise CheckpointError(f"{path.name} has more than {MAX_JSON_BYTES} bytes")
    return content.decode("utf-8")


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write an indented JSON object, with its fields in the given order."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
