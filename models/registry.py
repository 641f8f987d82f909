"""Every supported architecture with its config.json field names, and the published model sizes."""

from collections.abc import Mapping
from dataclasses import fields
from reprlib import repr as shown  # of limited length and depth
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from models.errors import CheckpointError
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

Task = Literal["classify", "segment"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
Network = ViT | ViTSegmenter | Segformer | SegformerClassifier
Sizes = ViTConfig | ViTSegmenterConfig | SegformerConfig

VIT_FIELDS = {  # name in ViTConfig: name in config.json
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_channels": "num_channels",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_size": "intermediate_size",
    "hidden_act": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
    "qkv_bias": "qkv_bias",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
SEGFORMER_FIELDS = {  # name in SegformerConfig: name in config.json
    "num_channels": "num_channels",
    "depths": "depths",
    "hidden_sizes": "hidden_sizes",
    "num_heads": "num_attention_heads",
    "sr_ratios": "sr_ratios",
    "patch_sizes": "patch_sizes",
    "strides": "strides",
    "mlp_ratios": "mlp_ratios",
    "decoder_hidden_size": "decoder_hidden_size",
    "hidden_act": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "classifier_dropout": "classifier_dropout_prob",
    "drop_path": "drop_path_rate",
}
VIT_OPTIONS = (  # patchserve's own
    "patch_embedding",
    "patch_order",
    "positions",
    "attention",
    "head_dim",
    "pooling",
    "head",
)
DISTILLATION = ("distillation_token", "distillation_head")
PLAIN = MappingProxyType(  # a ViT without any of these options
    {f.name: f.default for f in fields(ViTConfig) if f.name in VIT_OPTIONS + DISTILLATION}
)
VIT_SIZES = {  # hidden_size, num_layers, num_heads; arXiv:2010.11929, table 1, and 2012.12877
    "Ti": (192, 12, 3),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "H": (1280, 32, 16),
}
SEGFORMER_SIZES = {  # hidden_sizes, depths, decoder_hidden_size; arXiv:2105.15203, table 6
    "B0": ((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "B1": ((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "B2": ((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "B3": ((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "B4": ((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "B5": ((64, 128, 320, 512), (3, 6, 40, 3), 768),
}


class Architecture(NamedTuple):
    """A network and its config class, under the name that config.json uses."""

    name: str
    model_type: str
    task: Task
    network: type[Network]
    config: type[Sizes]
    fields: Mapping[str, str]  # config fields that config.json stores, by our names
    fixed: Mapping[str, Any]  # config fields that the architecture's name determines


ARCHITECTURES = (  # without a name in config.json, the first one of the model type is meant
    Architecture("ViTForImageClassification", "vit", "classify", ViT, ViTConfig, VIT_FIELDS, PLAIN),
    Architecture(
        "DeiTForImageClassification",
        "deit",
        "classify",
        ViT,
        ViTConfig,
        VIT_FIELDS,
        PLAIN | {"distillation_token": True},
    ),
    Architecture(
        "DeiTForImageClassificationWithTeacher",
        "deit",
        "classify",
        ViT,
        ViTConfig,
        VIT_FIELDS,
        PLAIN | {"distillation_token": True, "distillation_head": True},
    ),
    Architecture(
        "SegformerForSemanticSegmentation",
        "segformer",
        "segment",
        Segformer,
        SegformerConfig,
        SEGFORMER_FIELDS,
        {},
    ),
    Architecture(
        "SegformerForImageClassification",
        "segformer",
        "classify",
        SegformerClassifier,
        SegformerConfig,
        SEGFORMER_FIELDS,
        {},
    ),
    Architecture(  # a name of its own, because other software would ignore the options
        "PatchserveViT",
        "patchserve_vit",
        "classify",
        ViT,
        ViTConfig,
        VIT_FIELDS | {name: name for name in VIT_OPTIONS + DISTILLATION},
        {},
    ),
    Architecture(
        "PatchserveViTSegmenter",
        "patchserve_vit_segmenter",
        "segment",
        ViTSegmenter,
        ViTSegmenterConfig,
        VIT_FIELDS | {name: name for name in ("attention", "head_dim")},
        {},
    ),
)


def architecture_of(network: Network) -> Architecture:
    """Return the architecture that a network's checkpoint is saved as."""
    return next(
        architecture
        for architecture in ARCHITECTURES
        if type(network) is architecture.network
        and all(getattr(network.config, name) == v for name, v in architecture.fixed.items())
    )


def architecture_named(names: object, model_type: object) -> Architecture:
    """Return the architecture that a config.json describes.

    Args:
        names: the value of `architectures`; its first element decides.
        model_type: the value of `model_type`, which decides if there is no name.

    Raises:
        CheckpointError: the architecture is unsupported, or the two values contradict each other.
    """
    name = names[0] if isinstance(names, list) and names else None
    for architecture in ARCHITECTURES:
        fits = model_type in (None, architecture.model_type)
        if fits and (name == architecture.name or (name is None and model_type is not None)):
            return architecture
    supported = ", ".join(f"{a.name} ({a.model_type})" for a in ARCHITECTURES)
    raise CheckpointError(
        f"config.json: architecture {shown(name)} of model type {shown(model_type)} is not "
        f"supported; supported, each with its trained head: {supported}"
    )


def vit_config(name: str, **changes: Any) -> ViTConfig:
    """Return the config of a published ViT, such as "Ti/16", "B/32" or "H/14".

    Args:
        name: size and patch size.
        changes: fields of `ViTConfig` to set otherwise.

    Raises:
        ValueError: the name is unknown.
    """
    size, _, patch = name.partition("/")
    if size not in VIT_SIZES or not patch.isdecimal() or not int(patch):
        raise ValueError(
            f"unknown ViT {name!r}; known with any patch size:"
            f" {', '.join(f'{s}/16' for s in VIT_SIZES)}"
        )
    D, layers, heads = VIT_SIZES[size]
    sizes = {"hidden_size": D, "num_layers": layers, "num_heads": heads, "mlp_size": 4 * D}
    return ViTConfig(**{**sizes, "patch_size": int(patch), **changes})


def segformer_config(name: str, **changes: Any) -> SegformerConfig:
    """Return the config of a published SegFormer or MiT classifier, "B0" to "B5".

    Args:
        name: the size.
        changes: fields of `SegformerConfig` to set otherwise.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in SEGFORMER_SIZES:
        raise ValueError(f"unknown SegFormer {name!r}; known: {', '.join(SEGFORMER_SIZES)}")
    hidden_sizes, depths, decoder = SEGFORMER_SIZES[name]
    sizes = {"hidden_sizes": hidden_sizes, "depths": depths, "decoder_hidden_size": decoder}
    return SegformerConfig(**{**sizes, **changes})
