"""The state of an unfinished run in one file, replaced atomically.

The file holds plain values and tensors only, so that reading it runs no code.
"""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

STATE = "state.pt"


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the file with this state; OSError if it cannot be written."""
    fresh = folder / f"{STATE}.new"
    with fresh.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(f"{fresh} cannot be written: {error}") from error
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / STATE)


def read_state(folder: Path) -> dict[str, Any]:
    """Return the state; ValueError if there is none, or if it is damaged."""
    path = folder / STATE
    if not path.is_file():
        raise ValueError(f"{folder} has no interrupted run to resume")
    if not zipfile.is_zipfile(path):  # torch.save writes a ZIP file, which ends with its directory
        raise ValueError(f"{path} is damaged: it is incomplete")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not the state of a run")
    return state
