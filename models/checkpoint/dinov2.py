"""How transformers stores DINOv2 (arXiv:2304.07193): its sizes in config.json, and its tensors.

Source: transformers 5.24, models/dinov2 and models/dinov2_with_registers.
"""

import re
from collections.abc import Mapping
from reprlib import repr as shown  # of limited length and depth
from typing import Any

import torch
from torch import Tensor

from models.checkpoint.layer_scale import check_stored, fold_layer_scale
from models.errors import CheckpointError
from models.registry import dinov2_mlp_ratio, dinov2_mlp_size

Tensors = dict[str, Tensor]

DEFAULTS: Mapping[str, Any] = {  # of fields that config.json does not have, where ViT has others
    "hidden_size": 768,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
    "mlp_ratio": 4,
    "use_swiglu_ffn": False,
}
DEFAULTS_WITH_REGISTERS = {**DEFAULTS, "patch_size": 16, "num_register_tokens": 4}
MAX_PRODUCT = 2**20  # of width and ratio; larger widths of an MLP are not supported anyway
BRANCHES = (  # old and new names of the last layer of each branch
    (r"(.+)\.attention\.(?:output\.dense|o_proj)", r"\1.layer_scale1.lambda1"),
    (r"(.+)\.mlp\.(?:fc2|weights_out|down_proj)", r"\1.layer_scale2.lambda1"),
)
LAST_LAYERS = ((r"\.attention\.output\.dense\.bias$", 1), (r"\.mlp\.(fc2|weights_out)\.bias$", 2))
MASK_TOKEN = "embeddings.mask_token"  # noqa: S105  # only pre-training reads it
GATE = re.compile(r"(.+\.mlp)\.gate_proj\.(weight|bias)")


def read_sizes(document: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of config.json with the fields of a ViT instead of DINOv2's.

    Raises:
        CheckpointError: a value is invalid.
    """
    sizes = {**defaults, **document}
    width, ratio, swiglu = (sizes[name] for name in ("hidden_size", "mlp_ratio", "use_swiglu_ffn"))
    for name, value in (("hidden_size", width), ("mlp_ratio", ratio)):
        if type(value) is not int or not 0 < value <= MAX_PRODUCT:
            raise CheckpointError(f"config.json: {name} is {shown(value)}, not a positive integer")
    if not isinstance(swiglu, bool):
        raise CheckpointError(f"config.json: use_swiglu_ffn is {shown(swiglu)}, not true or false")
    mlp = "swiglu" if swiglu else "plain"
    return {**sizes, "mlp": mlp, "intermediate_size": dinov2_mlp_size(width, ratio, mlp)}


def write_sizes(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of config.json with the fields of DINOv2; inverse of `read_sizes`."""
    sizes = dict(document)
    mlp, mlp_size = sizes.pop("mlp"), sizes.pop("intermediate_size")
    ratio = dinov2_mlp_ratio(sizes["hidden_size"], mlp_size, mlp)
    return {**sizes, "mlp_ratio": ratio, "use_swiglu_ffn": mlp == "swiglu"}


def read_tensors(tensors: Tensors) -> Tensors:
    """Fold layer scale, join the two halves of SwiGLU's first layer, and drop the mask token.

    Raises:
        CheckpointError: tensors that belong together do not fit.
    """
    joined: Tensors = {}
    for name, tensor in tensors.items():
        if match := GATE.fullmatch(name):
            up, both = (f"{match[1]}.{part}.{match[2]}" for part in ("up_proj", "weights_in"))
            if both in tensors:
                raise CheckpointError(f"{name} and {both} are the same layer, stored twice")
            joined[both] = stacked(name, tensor, up, tensors.get(up))
        elif not (name.endswith(MASK_TOKEN) or is_up_of_gate(name, tensors)):
            joined[name] = tensor
    return fold_layer_scale(joined, BRANCHES)


def is_up_of_gate(name: str, tensors: Tensors) -> bool:
    """Whether this is the second half of a layer whose first half is stored, too."""
    return ".mlp.up_proj." in name and name.replace(".up_proj.", ".gate_proj.") in tensors


def stacked(gate_name: str, gate: Tensor, up_name: str, up: Tensor | None) -> Tensor:
    """Stack the rows of the gates and of the values. CheckpointError if they do not fit."""
    if up is None:
        raise CheckpointError(f"there is no tensor {up_name}")
    if not gate.ndim or gate.shape != up.shape or gate.dtype != up.dtype:
        raise CheckpointError(
            f"{up_name} is {list(up.shape)} of {up.dtype}, which does not fit {gate_name}, "
            f"{list(gate.shape)} of {gate.dtype}"
        )
    check_stored(gate_name, gate)
    check_stored(up_name, up)
    return torch.cat([gate, up])


def write_tensors(tensors: Tensors) -> Tensors:
    """Add what transformers expects: layer scales of 1, and a mask token of 0."""
    added: Tensors = {}
    for name, tensor in tensors.items():
        for pattern, number in LAST_LAYERS:
            if match := re.search(pattern, name):
                added[f"{name[: match.start()]}.layer_scale{number}.lambda1"] = torch.ones_like(
                    tensor
                )
        if name.endswith("embeddings.cls_token"):
            added[name.replace("embeddings.cls_token", MASK_TOKEN)] = torch.zeros_like(tensor[0])
    return tensors | added
