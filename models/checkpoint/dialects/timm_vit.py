"""ViT, DeiT and DeiT III classifiers of timm: hub folders, and files of weights.

Sources: timm 1.0, models/vision_transformer.py, models/deit.py, layers/attention.py,
data/transforms_factory.py.
"""

import re
from collections.abc import Mapping
from math import isqrt
from reprlib import repr as shown  # of limited length and depth
from typing import Any

import torch
from torch import Tensor

from models.checkpoint.dialects.dialect import Dialect, Rename, shape_of
from models.checkpoint.dialects.timm_preprocessing import input_size, preprocessing_of, pretrained
from models.checkpoint.layer_scale import check_stored, fold_layer_scale
from models.checkpoint.stored import Stored
from models.errors import CheckpointError
from models.preprocessing import Preprocessing, Size

BLOCK = "encoder.blocks.{i}"
NAMES = (
    Rename("cls_token", "class_token"),
    Rename("dist_token", "distillation_token"),
    Rename("pos_embed", "positions"),
    Rename("patch_embed.proj", "patch_embedding.projection"),
    Rename("blocks.{i}.norm1", f"{BLOCK}.norm_1"),
    Rename(
        "blocks.{i}.attn.qkv",
        (f"{BLOCK}.attention.query", f"{BLOCK}.attention.key", f"{BLOCK}.attention.value"),
    ),
    Rename("blocks.{i}.attn.proj", f"{BLOCK}.attention.output"),
    Rename("blocks.{i}.ls1.gamma", f"{BLOCK}.layer_scale_1"),  # folded by `adapt`
    Rename("blocks.{i}.norm2", f"{BLOCK}.norm_2"),
    Rename("blocks.{i}.mlp.fc1", f"{BLOCK}.mlp.expand"),
    Rename("blocks.{i}.mlp.fc2", f"{BLOCK}.mlp.contract"),
    Rename("blocks.{i}.ls2.gamma", f"{BLOCK}.layer_scale_2"),
    Rename("norm", "norm"),
    Rename("head", "head"),
    Rename("head_dist", "distillation_head"),
)
BRANCHES = (
    (r"(.+)\.attention\.output", r"\1.layer_scale_1"),
    (r"(.+)\.mlp\.contract", r"\1.layer_scale_2"),
)
MARKS = ("cls_token", "pos_embed", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight")
# others, for example vit_base_patch16_clip_224, may compute something else with the same parameters
ARCHITECTURE = re.compile(
    r"(vit|deit3?)_(?P<size>[a-z]+)_(distilled_)?patch\d+_(\d+(_\w+)?|dinov2)"
)
ARGUMENTS = re.compile(  # of the network; the shapes of the tensors say the same, or training only
    r"num_classes|img_size|patch_size|embed_dim|depth|num_heads|mlp_ratio|qkv_bias|in_chans"
    r"|global_pool|distilled|no_embed_class|init_values|weight_init|fix_init"
    r"|.*drop.*"
)
SIZES = {  # width and number of heads, by the name of the size
    "tiny": (192, 3),
    "small": (384, 6),
    "medium": (512, 8),
    "base": (768, 12),
    "large": (1024, 16),
    "huge": (1280, 16),
}
DEIT_MARKS = {"dist_token", "blocks.0.ls1.gamma"}  # DeiT, DeiT III or DINOv2, of a bare file
OLD_FIELDS = ("mean", "std", "input_size", "crop_pct", "labels")  # of timm before 0.9, at the top


def recognizes(stored: Stored) -> bool:
    """Whether this is a folder of timm, or a file with its names."""
    if stored.is_file:
        return all(name in stored.tensors for name in MARKS)
    return isinstance(stored.document.get("architecture"), str)


def document(stored: Stored, arch: str) -> dict[str, Any]:
    """Return the sizes in the terms of transformers; they follow from the shapes of the tensors."""
    name = arch.partition(".")[0] or stored.document.get("architecture", "")  # without the tag
    tensors = stored.tensors
    refuse_others(stored, name)
    width, channels, *patch = shape_of(tensors, "patch_embed.proj.weight", 4)
    teacher = "head_dist.weight" in tensors
    labels = labels_of(stored)
    return {
        "architectures": [
            "DeiTForImageClassificationWithTeacher"
            if teacher
            else "DeiTForImageClassification"
            if "dist_token" in tensors
            else "ViTForImageClassification"
        ],
        "image_size": list(image_size(stored, patch[0])),
        "patch_size": list(patch),
        "num_channels": channels,
        "hidden_size": width,
        "num_hidden_layers": sum(key.endswith(".attn.qkv.weight") for key in tensors),
        "num_attention_heads": heads(stored, name, width),
        "intermediate_size": shape_of(tensors, "blocks.0.mlp.fc1.weight", 2)[0],
        "layer_norm_eps": 1e-6,
        "qkv_bias": "blocks.0.attn.qkv.bias" in tensors,
    } | labels


def refuse_others(stored: Stored, name: str) -> None:
    """Raise CheckpointError for an architecture that is not a plain ViT or DeiT classifier."""
    if name and not ARCHITECTURE.fullmatch(name):
        raise CheckpointError(
            f"the architecture {shown(name)} of timm is not supported; supported are vit, deit and "
            f"deit3 of the sizes {', '.join(SIZES)}, for example vit_base_patch16_224"
        )
    if absent := [mark for mark in MARKS if mark not in stored.tensors]:
        raise CheckpointError(f"a ViT of timm has {', '.join(absent)}, but this checkpoint has not")
    if old := [field for field in OLD_FIELDS if field in stored.document]:
        raise CheckpointError(
            f"config.json has {', '.join(old)} outside of pretrained_cfg, as timm wrote it before "
            "version 0.9: save the network with a current timm"
        )
    given = arguments(stored)
    if others := [key for key in given if not ARGUMENTS.fullmatch(key)]:
        raise CheckpointError(
            f"config.json: model_args has {shown(others)}, not supported for timm"
        )
    pooling = given.get("global_pool") or stored.document.get("global_pool") or "token"
    if pooling != "token":
        raise CheckpointError(
            f"config.json: global_pool is {shown(pooling)}; of timm, only token is supported"
        )


def heads(stored: Stored, name: str, width: int) -> Any:
    """Return the number of heads, by the arguments, the name of the size or the width."""
    given, match = arguments(stored), ARCHITECTURE.fullmatch(name)
    known = SIZES.get(match["size"]) if match else None
    if known and known[0] != width and "embed_dim" not in given:
        raise CheckpointError(
            f"a {name} has a width of {known[0]}, but the weights have {width}: the architecture "
            "is another one"
        )
    by_name = known[1] if known else None
    by_width = None if match else dict(SIZES.values()).get(width)
    number = given.get("num_heads") or by_name or by_width
    if number is None:
        raise CheckpointError(
            f"the number of heads of {shown(name or stored.path.name)} is not known; it is for "
            f"vit, deit and deit3 of the sizes {', '.join(SIZES)}: for a file of weights, give the "
            "architecture as --arch, for example vit_base_patch16_224"
        )
    return number


def arguments(stored: Stored) -> Mapping[str, Any]:
    """Return the arguments of the network that differ from those of its architecture."""
    given = stored.document.get("model_args") or {}
    if not isinstance(given, dict):
        raise CheckpointError(f"config.json: model_args is {shown(given)}, not a JSON object")
    return given


def image_size(stored: Stored, patch: int) -> Size:
    """Return the size whose grid has as many patches as there are positions of patches."""
    count = shape_of(stored.tensors, "pos_embed", 3)[1]
    alone = is_of_patches_alone(count, scaled="blocks.0.ls1.gamma" in stored.tensors)
    if not alone:
        count -= 1 + ("dist_token" in stored.tensors)
    sizes = (square_or_pair(arguments(stored).get("img_size")), input_size(stored))
    for height, width in filter(None, sizes):
        if (height // patch) * (width // patch) == count:
            return height, width
        if alone and (height // patch) * (width // patch) == count - 1:
            raise CheckpointError(
                f"pos_embed has {count} positions, of a square of patches or of the class token "
                f"and {width} x {height} pixels: such a network is supported for square images only"
            )
    side = isqrt(count)
    if side * side != count:
        raise CheckpointError(f"pos_embed has {count} patches, which no size in config.json gives")
    return side * patch, side * patch


def square_or_pair(value: object) -> Size | None:
    """Return a height and a width from one or two integers, or None for anything else."""
    match value:
        case int() as side:
            return side, side
        case [int() as height, int() as width]:
            return height, width
    return None


def labels_of(stored: Stored) -> dict[str, Any]:
    """Return `id2label` from label_names and label_descriptions, or the number of labels."""
    names = stored.document.get("label_names")
    if names is None:
        names = pretrained(stored).get("label_names")
    descriptions = stored.document.get("label_descriptions") or {}
    if not isinstance(names, list) or not isinstance(descriptions, dict):
        return {"num_labels": shape_of(stored.tensors, "head.weight", 2)[0]}
    labels = [descriptions.get(each, each) if isinstance(each, str) else each for each in names]
    return {"id2label": {str(number): label for number, label in enumerate(labels)}}


def adapt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold layer scale, and give the class token of DeiT III a position of zero."""
    if not any(name.endswith("layer_scale_1") for name in tensors):
        return tensors
    positions = tensors.get("positions")
    if positions is not None and is_of_patches_alone(positions.shape[1], scaled=True):
        check_stored("pos_embed", positions)
        zero = torch.zeros_like(positions[:, :1])
        tensors = {**tensors, "positions": torch.cat([zero, positions], dim=1)}
    return fold_layer_scale(tensors, BRANCHES)


def is_of_patches_alone(count: int, *, scaled: bool) -> bool:
    """Whether so many positions are those of a square of patches, without the class token.

    Only networks with layer scale, such as DeiT III (arXiv:2204.07118), have them.
    """
    return scaled and isqrt(count) ** 2 == count


def preprocessing(stored: Stored, arch: str) -> tuple[Preprocessing, bool]:
    """Return the preprocessing, and whether it is assumed."""
    patch = shape_of(stored.tensors, "patch_embed.proj.weight", 4)[2]
    imagenet = arch.startswith("deit") or not DEIT_MARKS.isdisjoint(stored.tensors)
    found = preprocessing_of(stored, image_size(stored, patch), patch, imagenet=imagenet)
    return found, not pretrained(stored)


TIMM_VIT = Dialect("ViT of timm", "timm", recognizes, document, preprocessing, NAMES, adapt)
