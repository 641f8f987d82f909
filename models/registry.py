"""The architectures that are served, and the names that config.json gives them and their sizes.

Knows nothing of the document's other contents, nor of weights.
"""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from models.errors import CheckpointError
from models.segformer import Segformer, SegformerClassifier, SegformerConfig
from models.vit import ViT, ViTConfig
from models.vit_segmenter import ViTSegmenter, ViTSegmenterConfig

Task = Literal["classify", "segment"]
Network = ViT | ViTSegmenter | Segformer | SegformerClassifier
Sizes = ViTConfig | ViTSegmenterConfig | SegformerConfig

VIT_FIELDS = {  # ours: Hugging Face's
    "image_size": "image_size",
    "patch_size": "patch_size",
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
VIT_OPTIONS = ("patch_embedding", "positions", "attention", "pooling", "head")  # unknown to others
SEGFORMER_FIELDS = {
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
DISTILLATION = ("distillation_token", "distillation_head")
PLAIN = MappingProxyType(
    {f.name: f.default for f in fields(ViTConfig) if f.name in VIT_OPTIONS + DISTILLATION}
)


class Architecture(NamedTuple):
    """A network under the name that config.json gives it."""

    name: str
    model_type: str
    task: Task
    network: type[Network]
    config: type[Sizes]
    fields: Mapping[str, str]
    fixed: Mapping[str, Any]  # what the name alone says of the config


ARCHITECTURES = (  # the first of a model type is assumed when config.json names none
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
    Architecture(  # a ViT with options of ours, which others would load and run wrongly
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
        VIT_FIELDS | {"attention": "attention"},
        {},
    ),
)


def architecture_of(network: Network) -> Architecture:
    """The architecture under whose name a network is saved."""
    return next(
        architecture
        for architecture in ARCHITECTURES
        if type(network) is architecture.network
        and all(getattr(network.config, name) == said for name, said in architecture.fixed.items())
    )


def architecture_named(names: object, model_type: object) -> Architecture:
    """The architecture that a config.json's `architectures` names, or else its `model_type`.

    CheckpointError, with what is supported, for any other, and when the two contradict each other.
    """
    name = names[0] if isinstance(names, list) and names else None
    for architecture in ARCHITECTURES:
        fits = model_type in (None, architecture.model_type)
        if fits and (name == architecture.name or (name is None and model_type is not None)):
            return architecture
    supported = ", ".join(f"{known.name} ({known.model_type})" for known in ARCHITECTURES)
    raise CheckpointError(
        f"config.json: architecture {name!r} of model type {model_type!r} is not supported; "
        f"supported, each with its trained head: {supported}"
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


def vit_config(name: str, **changes: Any) -> ViTConfig:
    """The ViT of a size and patch size, as in "Ti/16", "B/32" or "H/14"; `changes` are its fields.

    ValueError for an unknown name.
    """
    size, _, patch = name.partition("/")
    if size not in VIT_SIZES or not patch.isdecimal() or not int(patch):
        raise ValueError(
            f"no ViT is called {name!r}; e.g. {', '.join(f'{s}/16' for s in VIT_SIZES)}"
        )
    D, layers, heads = VIT_SIZES[size]
    sizes = {"hidden_size": D, "num_layers": layers, "num_heads": heads, "mlp_size": 4 * D}
    return ViTConfig(**{**sizes, "patch_size": int(patch), **changes})


def segformer_config(name: str, **changes: Any) -> SegformerConfig:
    """The SegFormer, or MiT, of a size B0 to B5; `changes` are its fields.

    ValueError for an unknown name.
    """
    if name not in SEGFORMER_SIZES:
        raise ValueError(f"no SegFormer is called {name!r}; there are {', '.join(SEGFORMER_SIZES)}")
    hidden_sizes, depths, decoder = SEGFORMER_SIZES[name]
    sizes = {"hidden_sizes": hidden_sizes, "depths": depths, "decoder_hidden_size": decoder}
    return SegformerConfig(**{**sizes, **changes})
