"""Owns how the failures of a device are told apart: no memory, lost for good, or neither.

Knows nothing of what was computed, nor of what follows from its failure.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from app.engine.interface import DeviceLost, OutOfMemory

NO_MEMORY = ("can't allocate memory", "not enough memory")  # what torch's allocator on a CPU says


@contextmanager
def translate_device_errors(device: torch.device) -> Iterator[None]:
    """Raise what the seam calls it, where the device is at fault; else what was raised.

    Raises:
        OutOfMemory: the device, or the host, has no memory for the work.
        DeviceLost: whatever is asked of the device fails from now on.
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
    """What a GPU says that computes nothing any more; None while it works.

    An error of a kernel is told by whatever is asked next, and then by all: only a new process gets
    a working context (CUDA's `sticky` errors). So the device is asked to do nothing at all.
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
        torch.cuda.empty_cache()  # pieces of the wrong sizes may make up what is missing
    return OutOfMemory(str(error).partition("\n")[0] or "no memory is left")
