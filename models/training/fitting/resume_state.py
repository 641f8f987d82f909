"""The state of a run that is not finished, as one file, written whole or not at all.

Does not know what is in it but for plain values and tensors: the file can hold no code.
"""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

STATE = "state.pt"


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Put the state in the place of the one before."""
    fresh = folder / f"{STATE}.new"
    with fresh.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / STATE)


def read_state(folder: Path) -> dict[str, Any]:
    """The state; ValueError when there is none, or it is damaged."""
    path = folder / STATE
    if not path.is_file():
        raise ValueError(f"{folder} has no interrupted run to go on with")
    if not zipfile.is_zipfile(path):  # as torch.save writes it, the directory last
        raise ValueError(f"{path} is damaged: it is not whole")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no state of a run")
    return state
