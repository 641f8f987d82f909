"""The MiT encoder of SegFormer, as NVlabs and segmentation-models-pytorch store it.

Sources: NVlabs/SegFormer, mmseg/models/backbones/mix_transformer.py; segmentation-models-pytorch
0.6, encoders/mix_transformer.py.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from models.checkpoint.dialects.dialect import Rename, shape_of
from models.checkpoint.preprocessor_config import SEGFORMER, parse
from models.checkpoint.stored import Stored
from models.errors import CheckpointError
from models.preprocessing import Preprocessing

STAGES = range(4)
HEADS = [1, 2, 5, 8]  # of mit_b0 to mit_b5
WIDTHS = ([32, 64, 160, 256], [64, 128, 320, 512])  # of mit_b0, and of mit_b1 to mit_b5


def encoder_names(prefix: str) -> Iterator[Rename]:
    """Yield the names of the encoder's parameters, which begin with the prefix."""
    for s in STAGES:
        n, ours = s + 1, f"encoder.stages.{s}"
        yield Rename(f"{prefix}patch_embed{n}.proj", f"{ours}.patch_embedding.projection")
        yield Rename(f"{prefix}patch_embed{n}.norm", f"{ours}.patch_embedding.norm")
        yield Rename(f"{prefix}norm{n}", f"{ours}.norm")
        theirs, ours = f"{prefix}block{n}.{{i}}", f"{ours}.blocks.{{i}}"
        yield Rename(f"{theirs}.norm1", f"{ours}.norm_1")
        yield Rename(f"{theirs}.attn.q", f"{ours}.attention.query")
        yield Rename(f"{theirs}.attn.kv", (f"{ours}.attention.key", f"{ours}.attention.value"))
        yield Rename(f"{theirs}.attn.proj", f"{ours}.attention.output")
        yield Rename(f"{theirs}.attn.sr", f"{ours}.attention.reduction.convolution")
        yield Rename(f"{theirs}.attn.norm", f"{ours}.attention.reduction.norm")
        yield Rename(f"{theirs}.norm2", f"{ours}.norm_2")
        yield Rename(f"{theirs}.mlp.fc1", f"{ours}.mlp.expand")
        yield Rename(f"{theirs}.mlp.dwconv.dwconv", f"{ours}.mlp.depthwise")
        yield Rename(f"{theirs}.mlp.fc2", f"{ours}.mlp.contract")


def encoder_document(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """Return the sizes in the terms of transformers; they follow from the shapes of the tensors.

    Raises:
        CheckpointError: a tensor is missing, or the encoder is not one of mit_b0 to mit_b5.
    """
    patches = [shape_of(tensors, f"{prefix}patch_embed{s + 1}.proj.weight", 4) for s in STAGES]
    widths = [shape[0] for shape in patches]
    if widths not in WIDTHS:
        raise CheckpointError(
            f"the number of heads of an encoder with the widths {widths} is not known: supported "
            f"are mit_b0 with {WIDTHS[0]} and mit_b1 to mit_b5 with {WIDTHS[1]}"
        )
    blocks = [f"{prefix}block{s + 1}" for s in STAGES]
    mlps = [shape_of(tensors, f"{block}.0.mlp.fc1.weight", 2)[0] for block in blocks]
    return {
        "architectures": ["SegformerForSemanticSegmentation"],
        "num_channels": patches[0][1],
        "depths": [depth(tensors, block) for block in blocks],
        "hidden_sizes": widths,
        "num_attention_heads": HEADS,
        "sr_ratios": [reduction(tensors, f"{block}.0.attn.sr.weight") for block in blocks],
        "patch_sizes": [shape[2] for shape in patches],
        "strides": [4, 2, 2, 2],
        "mlp_ratios": [mlp // width for mlp, width in zip(mlps, widths, strict=True)],
        "norm_eps": 1e-6,
    }


def depth(tensors: Mapping[str, Tensor], block: str) -> int:
    """Return the number of blocks of a stage."""
    query = re.compile(rf"{re.escape(block)}\.\d+\.attn\.q\.weight")
    return sum(query.fullmatch(name) is not None for name in tensors)


def reduction(tensors: Mapping[str, Tensor], name: str) -> int:
    """Return the ratio of a stage that reduces its keys: the size of the kernel, or 1 without."""
    return shape_of(tensors, name, 4)[2] if name in tensors else 1


def preprocessing(stored: Stored, arch: str) -> tuple[Preprocessing, bool]:
    """Return the preprocessing of SegFormer's image processor, because no file says it."""
    return parse({}, SEGFORMER), True
