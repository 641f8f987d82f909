"""The input of a contender (a checkpoint, a batch, a device), and its output."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch


class Job(NamedTuple):
    """What to run: a checkpoint with its prepared files, the batch size and the device."""

    folder: Path
    batch: int
    device: str = "cpu"

    @property
    def images(self) -> Path:
        """The file of the batch as uint8 (B, H, W, 3)."""
        return self.folder / f"images-{self.batch}.npy"

    @property
    def pixels(self) -> Path:
        """The file of the same batch normalized, float32 (B, 3, H, W)."""
        return self.folder / f"pixels-{self.batch}.npy"

    def converted(self, format_: str) -> Path:
        """Return the file of transformers' network in a format (onnx, openvino), for this batch."""
        return self.folder / f"batch-{self.batch}.{SUFFIXES[format_]}"


SUFFIXES = {"onnx": "onnx", "openvino": "xml"}
Run = Callable[[], Any]  # runs one batch; `numpy_of` converts its output


def in_torch(
    network: "Callable[[torch.Tensor], torch.Tensor]", input_: "torch.Tensor", device: str
) -> Run:
    """Return a call of the network on an input on the device, including the wait for the device."""
    import torch

    def run() -> "torch.Tensor":
        with torch.inference_mode():
            logits = network(input_)
        if device == "cuda":
            torch.cuda.synchronize()
        return logits

    return run


def numpy_of(output: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return the logits of a contender's output as float32."""
    if hasattr(output, "float"):  # a tensor of torch
        return output.float().cpu().numpy()
    (logits,) = output.values() if hasattr(output, "values") else output
    return np.array(logits, np.float32)
