"""Limits on the memory and the work that a checkpoint asks for, in relation to its weights.

A small config.json can describe a network of any size, and a small preprocessor_config.json an
input of any size. Both are refused before the network's own memory is allocated.
"""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

from torch import nn

from models.errors import CheckpointError
from models.preprocessing import Size
from models.registry import Sizes
from models.segformer import SegformerConfig
from models.vit_segmenter import ViTSegmenterConfig

MAX_ATTENTION = 2**30  # pairs of tokens in one layer; a SegFormer at 2048 x 2048 pixels has them
MAX_ACTIVATION = 2**31  # numbers in one tensor for one image; a SegFormer-B5 at 2048 px: 2^30


class Stage(NamedTuple):
    """Layers with the same number of tokens."""

    tokens: int
    keys: int  # tokens that each token attends to
    width: int  # numbers per token in the widest layer


def check_parameters(network: nn.Module, stored_bytes: int) -> None:
    """Check that the weight files can hold the parameters, at a byte for each.

    Args:
        network: built from config.json, on the meta device.
        stored_bytes: of all weight files.

    Raises:
        CheckpointError: the files are too small.
    """
    parameters = sum(each.numel() for each in network.parameters())
    if parameters > stored_bytes:
        raise CheckpointError(
            f"config.json describes a network of {parameters} parameters, "
            f"but the weight files have only {stored_bytes} bytes"
        )


def check_input(sizes: Sizes, size: Size) -> None:
    """Check the work and the memory for one image of (height, width) pixels.

    Raises:
        CheckpointError: it exceeds MAX_ATTENTION or MAX_ACTIVATION.
    """
    image = f"an image of {size[1]} x {size[0]} pixels"
    for stage in stages_of(sizes, size):
        if stage.tokens * stage.keys > MAX_ATTENTION:
            raise CheckpointError(
                f"{image} has {stage.tokens} tokens, each with {stage.keys} attention weights; "
                f"at most {MAX_ATTENTION} weights in all are supported"
            )
        if stage.tokens * stage.width > MAX_ACTIVATION:
            raise CheckpointError(
                f"{image} has {stage.tokens} tokens of {stage.width} numbers; "
                f"at most {MAX_ACTIVATION} numbers in all are supported"
            )


def stages_of(sizes: Sizes, size: Size) -> Iterator[Stage]:
    """Yield the stages of a network for an image of (height, width) pixels."""
    height, width = size
    if isinstance(sizes, SegformerConfig):
        scale = sizes.strides[0] ** 2 if sizes.aligned_upsampling else 1  # the input's size
        outputs = max(sizes.decoder_hidden_size * len(sizes.depths), sizes.num_labels * scale)
        for C, ratio, stride, r in zip(
            sizes.hidden_sizes, sizes.mlp_ratios, sizes.strides, sizes.sr_ratios, strict=True
        ):
            height, width = ceil(height / stride), ceil(width / stride)
            yield Stage(height * width, (height // r) * (width // r), max(C * ratio, outputs))
            outputs = 0  # the decoder works at the size of the first stage
        return
    P = sizes.patch_size
    rows, columns = height // P, width // P
    outputs = sizes.num_labels * P * P if isinstance(sizes, ViTSegmenterConfig) else 0
    keys = rows * columns if sizes.attention == "full" else max(rows, columns)
    heads = sizes.num_heads * (sizes.head_dim or 0)  # without it, hidden_size
    layers = (sizes.num_channels * P * P, sizes.hidden_size, heads, sizes.mlp_size, outputs)
    yield Stage(rows * columns, keys, max(layers))
