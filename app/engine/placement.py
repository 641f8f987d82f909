"""Resolves settings: checkpoint source, device, number format and input size."""

from pathlib import Path

import torch

from app.core.types import Task
from models import checkpoint
from models.checkpoint import LoadOptions as LoadOptions  # also for the modules above the engine
from models.preprocessing import Preprocessing
from models.segformer import MIN_SIDE


def resolve_device(name: str) -> str:
    """The device of a setting; `auto` is CUDA if there is a GPU, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:  # its message lists dozens of devices
        raise ValueError(f"{name!r} is not a device: auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name}: torch finds {gpu_count()} CUDA devices")
    return name


def gpu_count() -> int:
    """Number of CUDA devices."""
    return torch.cuda.device_count()


def resolve_preprocessing(loaded: checkpoint.Checkpoint, side: int) -> Preprocessing:
    """The preprocessing of a checkpoint, with another input size unless `side` is 0.

    Args:
        loaded: the checkpoint.
        side: pixels a side of the input.

    Raises:
        models.checkpoint.CheckpointError: the input is too small for the network.
    """
    min_side = getattr(loaded.network.config, "patch_size", MIN_SIDE)
    if 0 < side < min_side:
        raise checkpoint.CheckpointError(
            f"{loaded.name} needs an input of at least {min_side} pixels a side, not {side}"
        )
    return loaded.preprocessing.at(side) if side else loaded.preprocessing


def model_name(source: str, task: Task) -> str:
    """The name of the model from a source, without loading it."""
    return checkpoint.name_of(resolve_source(source, task))


def resolve_source(source: str, task: Task) -> str | Path:
    """The source for `models.checkpoint.load`; `bundled` is the bundled checkpoint of the task."""
    return checkpoint.bundled(task) if source == "bundled" else source


def load_options(labels: str | Path | None, arch: str, *, strict: bool = False) -> LoadOptions:
    """The options of `models.checkpoint.load`; empty texts stand for what the user did not give."""
    return LoadOptions(arch=arch, labels_file=Path(labels) if labels else None, strict=strict)


def configure_cuda(dtype: torch.dtype) -> None:
    """Set what holds for all networks of the process on CUDA; call it before they are loaded.

    cuDNN's attention plans every new shape for about 0.4 s, and torch prefers it on some GPUs;
    flash attention has no plans. By default cuDNN's convolutions round float32 to TF32, while
    matrix products do not.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    if dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False


def limit_gpu_memory(device: torch.device, share: float) -> None:
    """Let this process use a part of a GPU's memory, because other processes need the rest.

    A batch beyond the limit is out of memory, also while the other processes use less.
    """
    if share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device.index)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of a setting.

    `auto` is float32 on a CPU. On CUDA it is bfloat16, or float16 on GPUs that only emulate it.
    """
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)  # noqa: S101  # settings accept only dtype names
    return dtype
