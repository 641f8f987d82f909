"""The files of a checkpoint folder: only regular files are opened.

A pipe would block for ever, and a device has no end.
"""

import os
from pathlib import Path
from stat import S_ISREG

from models.errors import CheckpointError


def is_present(path: Path) -> bool:
    """Whether the folder has a file of this name; it may be a link to a regular file.

    Raises:
        CheckpointError: the name is not a regular file, or a link without a target.
    """
    if not os.path.lexists(path):
        return False
    try:
        regular = S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from error
    if not regular:
        raise CheckpointError(f"{path.name} cannot be read: it is not a regular file")
    return True


def expanded(path: Path) -> Path:
    """Return the path with the home folder for ~. CheckpointError if there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {error}") from error
