"""The architectures that are served, and the names that config.json gives them and their sizes.

Knows nothing of the document's other contents, nor of weights.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from models.errors import CheckpointError
from models.segformer import SegformerConfig
from models.vit import ViTConfig

Task = Literal["classify", "segment"]

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


class Architecture(NamedTuple):
    """A network under the name that config.json gives it."""

    name: str
    model_type: str
    task: Task
    config: type[ViTConfig | SegformerConfig]
    fields: Mapping[str, str]
    distillation: Mapping[str, Any]  # what the name says of ViTConfig's token and head


ARCHITECTURES = (  # the first of a model type is assumed when config.json names none
    Architecture(
        "ViTForImageClassification",
        "vit",
        "classify",
        ViTConfig,
        VIT_FIELDS,
        {"distillation_token": False, "distillation_head": False},
    ),
    Architecture(
        "DeiTForImageClassification",
        "deit",
        "classify",
        ViTConfig,
        VIT_FIELDS,
        {"distillation_token": True, "distillation_head": False},
    ),
    Architecture(
        "DeiTForImageClassificationWithTeacher",
        "deit",
        "classify",
        ViTConfig,
        VIT_FIELDS,
        {"distillation_token": True, "distillation_head": True},
    ),
    Architecture(
        "SegformerForSemanticSegmentation",
        "segformer",
        "segment",
        SegformerConfig,
        SEGFORMER_FIELDS,
        {},
    ),
)


def architecture_for(sizes: ViTConfig | SegformerConfig) -> Architecture:
    """The architecture under whose name a network of these sizes is saved."""
    return next(
        architecture
        for architecture in ARCHITECTURES
        if isinstance(sizes, architecture.config)
        and all(getattr(sizes, name) == said for name, said in architecture.distillation.items())
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
