"""ViT classifiers of torchvision: files of weights.

Source: torchvision 0.29, models/vision_transformer.py and transforms/_presets.py.
"""

from math import isqrt
from typing import Any

from models.checkpoint.dialects.dialect import Dialect, Rename, shape_of
from models.checkpoint.preprocessor_config import DEIT
from models.checkpoint.stored import Stored
from models.errors import CheckpointError
from models.preprocessing import BICUBIC, BILINEAR, IMAGENET_MEAN, IMAGENET_STD, Preprocessing

THEIRS, OURS = "encoder.layers.encoder_layer_{i}", "encoder.blocks.{i}"
QUERY_KEY_VALUE = tuple(f"{OURS}.attention.{name}" for name in ("query", "key", "value"))
NAMES = (
    Rename("class_token", "class_token"),
    Rename("encoder.pos_embedding", "positions"),
    Rename("conv_proj", "patch_embedding.projection"),
    Rename(f"{THEIRS}.ln_1", f"{OURS}.norm_1"),
    Rename(
        f"{THEIRS}.self_attention.in_proj_weight", tuple(f"{n}.weight" for n in QUERY_KEY_VALUE)
    ),
    Rename(f"{THEIRS}.self_attention.in_proj_bias", tuple(f"{n}.bias" for n in QUERY_KEY_VALUE)),
    Rename(f"{THEIRS}.self_attention.out_proj", f"{OURS}.attention.output"),
    Rename(f"{THEIRS}.ln_2", f"{OURS}.norm_2"),
    Rename(f"{THEIRS}.mlp.0", f"{OURS}.mlp.expand"),
    Rename(f"{THEIRS}.mlp.3", f"{OURS}.mlp.contract"),
    Rename("encoder.ln", "norm"),
    Rename("heads.head", "head"),
)
FAMILY = "ViT of torchvision"
DEFAULTS = "torchvision for weights trained on ImageNet-1k"
MARKS = ("class_token", "conv_proj.weight", "encoder.pos_embedding")
MLP = "encoder.layers.encoder_layer_0.mlp.0.weight"
HEADS = {768: 12, 1024: 16, 1280: 16}  # by the width
NAMES_OF_WIDTH = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
TRAINED = 224  # pixels a side, of the weights trained on ImageNet-1k; larger ones are fine-tuned


def recognizes(stored: Stored) -> bool:
    """Whether this is a file with torchvision's names."""
    return stored.is_file and all(name in stored.tensors for name in MARKS)


def document(stored: Stored, arch: str) -> dict[str, Any]:
    """Return the sizes in the terms of transformers; they follow from the shapes of the tensors."""
    tensors = stored.tensors
    width, channels, *patch = shape_of(tensors, "conv_proj.weight", 4)
    name = f"{NAMES_OF_WIDTH.get(width)}_{patch[0]}"
    if arch not in ("", name):
        raise CheckpointError(
            f"the weights are a {name} of torchvision, not {arch!r}: leave it out"
        )
    if width not in HEADS:
        raise CheckpointError(
            f"a ViT of torchvision has a width of {', '.join(map(str, HEADS))}, not {width}"
        )
    return {
        "architectures": ["ViTForImageClassification"],
        "image_size": side(stored),
        "patch_size": list(patch),
        "num_channels": channels,
        "hidden_size": width,
        "num_hidden_layers": sum(key.endswith(".in_proj_weight") for key in tensors),
        "num_attention_heads": HEADS[width],
        "intermediate_size": shape_of(tensors, MLP, 2)[0],
        "layer_norm_eps": 1e-6,
        "num_labels": shape_of(tensors, "heads.head.weight", 2)[0],
    }


def side(stored: Stored) -> int:
    """Return the side of the square image that has as many patches as there are positions."""
    count = shape_of(stored.tensors, "encoder.pos_embedding", 3)[1] - 1
    rows = isqrt(count)
    if rows * rows != count:
        raise CheckpointError(f"encoder.pos_embedding has {count} patches, which is not a square")
    return rows * shape_of(stored.tensors, "conv_proj.weight", 4)[2]


def preprocessing(stored: Stored, arch: str) -> tuple[Preprocessing, bool]:
    """Return the preprocessing of torchvision's weights for this image size."""
    crop = side(stored)
    width, _, patch, _ = shape_of(stored.tensors, "conv_proj.weight", 4)
    edge = 242 if (width, patch) == (1024, 16) else 256  # of vit_l_16, and of all others
    return Preprocessing(
        processor=DEIT,
        size=None,
        shortest_edge=edge if crop == TRAINED else crop,
        resample=BILINEAR if crop == TRAINED else BICUBIC,
        crop_size=(crop, crop),
        crop_rounding="even",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ), True


TORCHVISION_VIT = Dialect(FAMILY, DEFAULTS, recognizes, document, preprocessing, NAMES)
