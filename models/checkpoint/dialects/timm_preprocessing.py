"""The preprocessing that timm's pretrained_cfg describes.

Sources: timm 1.0, data/config.py and data/transforms_factory.py.
"""

from collections.abc import Mapping
from math import floor
from reprlib import repr as shown  # of limited length and depth
from typing import Any

from models.checkpoint import preprocessor_config
from models.checkpoint.dialects.dialect import shape_of
from models.checkpoint.preprocessor_config import DEIT, MAX_SIDE, is_number
from models.checkpoint.stored import Stored
from models.errors import CheckpointError
from models.preprocessing import (
    BICUBIC,
    BILINEAR,
    BOX,
    HALF,
    HAMMING,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LANCZOS,
    NEAREST,
    Preprocessing,
    Size,
)

FILTERS = {
    "nearest": NEAREST,
    "lanczos": LANCZOS,
    "bilinear": BILINEAR,
    "bicubic": BICUBIC,
    "box": BOX,
    "hamming": HAMMING,
}
CROP_PCT = 0.875  # timm's default, if a pretrained_cfg does not have it
MIN_CROP_PCT = 0.1
USUAL_SIDE, USUAL_CROP_PCT = 224, 0.9  # of most ViTs; those for larger images have 1.0


def pretrained(stored: Stored) -> Mapping[str, Any]:
    """Return timm's pretrained_cfg."""
    config = stored.document.get("pretrained_cfg") or {}
    if not isinstance(config, dict):
        raise CheckpointError("config.json: pretrained_cfg is not a JSON object")
    return config


def input_size(stored: Stored) -> Size | None:
    """Return the height and width of the input, or None if the folder does not say it.

    timm writes 3 channels also for a network that takes another number of them.
    """
    channels = shape_of(stored.tensors, "patch_embed.proj.weight", 4)[1]
    match pretrained(stored).get("input_size"):
        case None:
            return None
        case [depth, int() as height, int() as width] if depth in (3, channels):
            if 0 < min(height, width) <= max(height, width) <= MAX_SIDE:
                return height, width
    raise CheckpointError(
        f"config.json: input_size is {shown(pretrained(stored)['input_size'])}, not [3, h, w] with "
        f"at most {MAX_SIDE} pixels a side"
    )


def preprocessing_of(stored: Stored, trained: Size, patch: int, *, imagenet: bool) -> Preprocessing:
    """Return the preprocessing, of timm's defaults where pretrained_cfg does not say it.

    Args:
        stored: the checkpoint.
        trained: height and width of the images that its positions are for.
        patch: side of a patch, in pixels.
        imagenet: whether a file without pretrained_cfg is of a family with ImageNet's mean.

    Raises:
        CheckpointError: a value is invalid or not supported.
    """
    config = pretrained(stored)
    channels = shape_of(stored.tensors, "patch_embed.proj.weight", 4)[1]
    size = size_of(stored, trained, patch)
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config or imagenet else (HALF, HALF)
    contents = {
        "image_processor_type": DEIT,
        "size": resized(config, size),
        "resample": resample(config),
        "crop_size": {"height": size[0], "width": size[1]},
        "crop_rounding": "even",
        "image_mean": config.get("mean") or mean,
        "image_std": config.get("std") or std,
    }
    try:
        return preprocessor_config.parse(contents, DEIT, channels if config.get("mean") else 3)
    except CheckpointError as error:
        raise CheckpointError(f"config.json, pretrained_cfg: {error}") from error


def size_of(stored: Stored, trained: Size, patch: int) -> Size:
    """Return the size of the input: timm corrects it to the positions if it is fixed."""
    given = input_size(stored)
    if given is None or pretrained(stored).get("fixed_input_size"):
        return trained
    if [side // patch for side in given] != [side // patch for side in trained]:
        raise CheckpointError(
            f"config.json: input_size is {given[1]} x {given[0]}, but the positions are those of "
            f"{trained[1]} x {trained[0]} pixels: set input_size to this size"
        )
    return given


def resized(config: Mapping[str, Any], size: Size) -> dict[str, int]:
    """Return the size before the crop, as in preprocessor_config.json."""
    default = USUAL_CROP_PCT if max(size) <= USUAL_SIDE else 1.0
    pct = config.get("crop_pct") or (CROP_PCT if config else default)
    if not is_number(pct) or not MIN_CROP_PCT <= pct <= 1:
        raise CheckpointError(f"config.json: crop_pct is {shown(pct)}, not {MIN_CROP_PCT} to 1")
    height, width = (floor(side / pct) for side in size)
    mode = config.get("crop_mode") or "center"
    if mode == "squash":
        return {"height": height, "width": width}
    if mode == "center" and height == width:
        return {"shortest_edge": height}
    raise CheckpointError(
        f"config.json: crop_mode is {shown(mode)} for an input of {size[1]} x {size[0]} pixels; "
        "supported are center with a square input, and squash"
    )


def resample(config: Mapping[str, Any]) -> int:
    """Return Pillow's number of the filter."""
    name = config.get("interpolation") or "bicubic"
    if not isinstance(name, str) or name not in FILTERS:
        raise CheckpointError(
            f"config.json: interpolation is {shown(name)}, not one of {', '.join(FILTERS)}"
        )
    return FILTERS[name]
