"""Reading and writing the JSON files of a checkpoint folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import CheckpointError


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object. CheckpointError if the file is missing, unreadable or not an object."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.name} cannot be read: no such file in {path.parent}"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path.name} is not a JSON object")
    return document


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write an indented JSON object, with its fields in the given order."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
