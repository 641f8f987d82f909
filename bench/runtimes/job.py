"""Owns what a contender is given and what it gives: a checkpoint and a batch, and calls of it.

Knows nothing of who the contenders are.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch


class Job(NamedTuple):
    """What to run: a checkpoint, what was prepared for it beside it, and the batch and device."""

    folder: Path
    batch: int
    device: str = "cpu"

    @property
    def images(self) -> Path:
        """The batch as uint8 (B, H, W, 3)."""
        return self.folder / f"images-{self.batch}.npy"

    @property
    def pixels(self) -> Path:
        """The same batch normalised, float32 (B, 3, H, W)."""
        return self.folder / f"pixels-{self.batch}.npy"

    def converted(self, format_: str) -> Path:
        """transformers' network as ONNX or in OpenVINO's format, for this batch."""
        return self.folder / f"batch-{self.batch}.{SUFFIXES[format_]}"


SUFFIXES = {"onnx": "onnx", "openvino": "xml"}
Run = Callable[[], Any]  # one batch; what it returns is for numpy_of


def in_torch(
    network: "Callable[[torch.Tensor], torch.Tensor]", input_: "torch.Tensor", device: str
) -> Run:
    """The network on the input, which is on the device already; done when the device is."""
    import torch

    def run() -> "torch.Tensor":
        with torch.inference_mode():
            logits = network(input_)
        if device == "cuda":
            torch.cuda.synchronize()
        return logits

    return run


def numpy_of(output: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """The logits in what a contender's run returned, as float32."""
    if hasattr(output, "float"):  # a tensor of torch
        return output.float().cpu().numpy()
    (logits,) = output.values() if hasattr(output, "values") else output
    return np.array(logits, np.float32)
