"""The networks of transformers, and their conversion to ONNX and OpenVINO.

As a program it converts one network: FORMAT CHECKPOINT INPUT.npy OUT.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn


class Logits(nn.Module):
    """A network of transformers that returns a tensor: float (B, 3, H, W) to its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixel_values=pixels).logits


def load(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> nn.Module:
    """Load the network of a checkpoint in eval mode, with its default attention."""
    transformers.utils.logging.disable_progress_bar()
    (name,) = transformers.AutoConfig.from_pretrained(folder).architectures  # nosec B615
    network = getattr(transformers, name).from_pretrained(folder, dtype=dtype)
    return Logits(network).eval().to(device)


def to_onnx(network: nn.Module, pixels: Tensor, file: Path) -> None:
    """Write the network as ONNX, for this input shape only."""
    torch.onnx.export(network, (pixels,), file, dynamo=True, external_data=False, verbose=False)


def to_openvino(network: nn.Module, pixels: Tensor, file: Path) -> None:
    """Write the network in OpenVINO's format, in float32, for this input shape only."""
    import openvino  # not needed for ONNX

    model: Any = openvino.convert_model(network, example_input=pixels)
    model.reshape({model.inputs[0]: openvino.PartialShape(list(pixels.shape))})
    openvino.save_model(model, file, compress_to_fp16=False)


CONVERTERS = {"onnx": to_onnx, "openvino": to_openvino}


@torch.no_grad()
def main(format_: str, folder: str, pixels: str, file: str) -> None:
    """Convert the network of a folder for the shape of the stored input."""
    warnings.simplefilter("ignore")  # tracing warns; the race compares the logits
    shape = torch.from_numpy(np.load(pixels))
    CONVERTERS[format_](load(Path(folder)), shape, Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
