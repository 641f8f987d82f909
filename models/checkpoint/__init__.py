"""Loads, saves and locates checkpoints in the Hugging Face layout."""

from models.checkpoint.checkpoint import (
    Checkpoint,
    bundled,
    load,
    name_of,
    path_of,
    require_rgb,
    save,
)
from models.checkpoint.options import DEFAULT_OPTIONS, LoadOptions
from models.errors import CheckpointError

__all__ = [
    "DEFAULT_OPTIONS",
    "Checkpoint",
    "CheckpointError",
    "LoadOptions",
    "bundled",
    "load",
    "name_of",
    "path_of",
    "require_rgb",
    "save",
]
