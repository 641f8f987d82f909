"""Distinguishes out of memory and a lost device from other errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from app.engine.interface import DeviceLost, OutOfMemory

NO_MEMORY = (  # in errors that are not torch.OutOfMemoryError
    "can't allocate memory",  # torch's CPU allocator
    "not enough memory",
    "CUDA error: out of memory",  # the driver
    "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
)


@contextmanager
def translate_device_errors(device: torch.device) -> Iterator[None]:
    """Translate errors of the device to errors of the engine interface; pass on other errors.

    Raises:
        OutOfMemory: the device, or the host, has no memory for the work.
        DeviceLost: every further call to the device fails.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(error, device) from error
    except RuntimeError as error:
        if any(words in str(error) for words in NO_MEMORY):
            raise _out_of_memory(error, device) from error
        lost = why_lost(device)
        if lost is not None:
            raise DeviceLost(lost) from error
        raise


def why_lost(device: torch.device) -> str | None:
    """The error message of a GPU that cannot compute any more, or None.

    A kernel error is reported by the next CUDA call and by all later ones: only a new process gets
    a working context (CUDA's "sticky" errors). So this waits for the device, without other work.
    """
    if device.type != "cuda":
        return None
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return None


def _out_of_memory(error: BaseException, device: torch.device) -> OutOfMemory:
    if device.type == "cuda":
        torch.cuda.empty_cache()  # cached blocks of other sizes may free enough memory
    return OutOfMemory(str(error).partition("\n")[0] or "no memory is left")
