"""The architectures that are served, and the names that config.json gives them and their sizes.

Knows nothing of the document's other contents, nor of weights.
"""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from models.errors import CheckpointError
from models.mit import SegformerConfig
from models.segformer import Segformer, SegformerClassifier
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
