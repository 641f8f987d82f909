"""Owns what settings mean to a model: which checkpoint, device, number format and input size.

Knows nothing of the engine that runs it.
"""

from pathlib import Path

import torch

from app.core.types import Task
from models import checkpoint
from models.preprocessing import Preprocessing

LEAST_INPUT_SIZE = 32  # of a SegFormer, whose stages shrink it 32 times


def resolve_device(name: str) -> str:
    """The device that a setting names; `auto` is CUDA where there is one.

    Raises:
        ValueError: CUDA is asked for and not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"the device {name} is asked for and not there")
    return name


def gpu_count() -> int:
    """The CUDA devices that are there."""
    return torch.cuda.device_count()


def resolve_preprocessing(loaded: checkpoint.Checkpoint, side: int) -> Preprocessing:
    """What the checkpoint asks of an image, at another input size unless that is 0.

    Raises:
        models.checkpoint.CheckpointError: the network sees nothing in an image so small.
    """
    least = getattr(loaded.network.config, "patch_size", LEAST_INPUT_SIZE)
    if 0 < side < least:
        raise checkpoint.CheckpointError(
            f"{loaded.name} needs an input of {least} pixels a side, not {side}"
        )
    return loaded.preprocessing.at(side) if side else loaded.preprocessing


def model_name(source: str, task: Task) -> str:
    """What to call the model of a source, before it is loaded."""
    return checkpoint.name_of(resolve_source(source, task))


def resolve_source(source: str, task: Task) -> str | Path:
    """What `models.checkpoint.load` takes for a source."""
    return checkpoint.bundled(task) if source == "bundled" else source


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format that a setting names; `auto` is bfloat16 on CUDA, else float32."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)  # noqa: S101  # settings admit three names
    return dtype
