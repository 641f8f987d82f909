"""Loads, saves and locates checkpoints in the Hugging Face layout."""

from models.checkpoint.checkpoint import (
    Checkpoint,
    bundled,
    folder_of,
    load,
    name_of,
    save,
)
from models.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointError", "bundled", "folder_of", "load", "name_of", "save"]
