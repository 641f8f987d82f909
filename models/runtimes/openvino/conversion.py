"""Converts a plain network to an OpenVINO model: folds it, exports it with torch, converts it.

A converted model takes any batch of images of one size.
"""

import warnings
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from models.preprocessing import Preprocessing, Size
from models.runtimes.openvino.package import import_openvino
from models.runtimes.optimize import fold
from models.runtimes.optimize.decoder import FoldedDecodeHead
from models.runtimes.optimize.dense import Dense
from models.runtimes.optimize.normalization import channels_of, fold_normalization
from models.runtimes.optimize.rewriting import rewrite, shallow_copy
from models.segformer import DecodeHead, Segformer
from models.vit import ViT
from models.vit_segmenter import ViTSegmenter

MAX_BATCH = 2**16  # torch.export needs an upper bound


class ConvolutionDecodeHead(nn.Module):
    """`FoldedDecodeHead` with convolutions on images instead of linear layers on tokens.

    OpenVINO chooses the memory layout of convolutions; with linear layers it would transpose every
    level before and after the upsampling.
    """

    def __init__(self, plain: DecodeHead) -> None:
        super().__init__()
        folded = FoldedDecodeHead(plain)
        self.finest, self.coarser, self.head = folded.finest, folded.coarser, folded.head

    def forward(self, features: list[Tensor]) -> Tensor:
        finest, *coarser = features
        total = pointwise(self.finest, finest)  # (B, D, H_1, W_1)
        for layer, x in zip(cast(list[Dense], self.coarser), coarser, strict=True):
            level = pointwise(layer, x)  # (B, D, H_i, W_i)
            size = finest.shape[2:]
            total = total + interpolate(level, size, mode="bilinear", align_corners=False)
        return pointwise(self.head, torch.relu(total))  # (B, num_labels, H_1, W_1)


def pointwise(layer: Dense, x: Tensor) -> Tensor:
    """Apply the layer to each pixel: (B, C, H, W) -> (B, D, H, W)."""
    return conv2d(x, layer.weight[:, :, None, None], layer.bias)


def decode_by_convolutions(network: nn.Module) -> nn.Module:
    """Replace SegFormer's decode head by `ConvolutionDecodeHead`."""

    def rule(module: nn.Module) -> nn.Module | None:
        return ConvolutionDecodeHead(module) if isinstance(module, DecodeHead) else None

    return rewrite(network, rule)


def positions_for_size(network: nn.Module, size: Size) -> nn.Module:
    """Resample a ViT's positions for one (height, width) where OpenVINO cannot: antialiased."""

    def rule(module: nn.Module) -> nn.Module | None:
        if not isinstance(module, ViT) or not module.config.antialias:
            return None
        if module.config.positions != "learned":
            return None
        twin = shallow_copy(module)
        twin.config = replace(module.config, image_size=size)
        positions = module.positions_for(twin.config.grid, module.positions)
        twin.positions = nn.Parameter(positions, requires_grad=False)
        return twin

    return rewrite(network, rule)


class Outputs(nn.Module):
    """The model's outputs: (logits, embedding) of a classifier, (logits,) of a segmenter.

    A segmenter's logits are (B, H, W, num_labels), the memory layout of its last layer.
    """

    def __init__(self, form: nn.Module, segments: bool) -> None:
        super().__init__()
        self.form, self.segments = form, segments

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        if self.segments:
            return (self.form(pixels).permute(0, 2, 3, 1),)
        return tuple(self.form.classify(pixels))  # type: ignore[operator]  # logits, embedding


def segments(network: nn.Module) -> bool:
    """Whether the network is a segmenter."""
    return isinstance(network, Segformer | ViTSegmenter)


@torch.no_grad()
def convert(network: nn.Module, size: Size, normalization: Preprocessing | None) -> Any:
    """Convert a network in eval mode to an openvino.Model for images of one (height, width).

    With a normalization the model takes uint8 (B, H, W, C), otherwise float32 (B, C, H, W).
    """
    channels = channels_of(network)
    network = positions_for_size(decode_by_convolutions(network), size)
    form, example = fold(network), torch.zeros(2, channels, *size)
    if normalization is not None:
        form = fold_normalization(form, preprocessing=normalization)
        example = torch.zeros(2, *size, channels, dtype=torch.uint8)
    outputs = Outputs(form, segments(network)).eval()
    outputs(example[:1])  # creates the cached constants before tracing
    batch = {"pixels": {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}}
    program = torch.export.export(outputs, (example,), dynamic_shapes=batch)
    with warnings.catch_warnings():  # OpenVINO's converter triggers a warning of torch
        warnings.filterwarnings("ignore", message=r".*LeafSpec", category=FutureWarning)
        return import_openvino().convert_model(program)
