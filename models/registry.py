"""Every supported architecture with its config.json field names, and the published model sizes."""

from collections.abc import Callable, Mapping
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
    "norm_eps": "norm_eps",
    "aligned_upsampling": "aligned_upsampling",
}
SIGLIP_FIELDS = {  # name in ViTConfig: name in vision_config
    ours: theirs for ours, theirs in VIT_FIELDS.items() if ours not in ("qkv_bias", "dropout")
} | {"attention_dropout": "attention_dropout"}
SEGFORMER_OPTIONS = ("norm_eps", "aligned_upsampling")  # patchserve's own; others ignore them
VIT_OPTIONS = (  # patchserve's own
    "patch_embedding",
    "patch_order",
    "positions",
    "attention",
    "head_dim",
    "pooling",
    "head",
    "mlp",
    "num_registers",
    "antialias",
)
DISTILLATION = ("distillation_token", "distillation_head")
PLAIN = MappingProxyType(  # a ViT without any of these options
    {f.name: f.default for f in fields(ViTConfig) if f.name in VIT_OPTIONS + DISTILLATION}
)
DINOV2_FIELDS = VIT_FIELDS | {"mlp": "mlp"}  # `checkpoint.dinov2` computes it, and the MLP's size
DINOV2 = {k: v for k, v in PLAIN.items() if k != "mlp"} | {"pooling": "class_mean"}
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


class Section(NamedTuple):
    """The object of config.json that has the fields, where config.json itself does not."""

    name: str
    constants: Mapping[str, Any]  # its other values, which are written and not read


class Architecture(NamedTuple):
    """A network and its config class, under the name that config.json uses."""

    name: str
    model_type: str
    task: Task
    network: type[Network]
    config: type[Sizes]
    fields: Mapping[str, str]  # config fields that config.json stores, by our names
    fixed: Mapping[str, Any]  # config fields that the architecture's name determines
    defaults: Mapping[str, Any] = MappingProxyType({})  # of absent fields, if not the class's
    section: Section | None = None
    suits: Callable[[Any], bool] = lambda sizes: True  # whether config.json can express the sizes


def dinov2_mlp_size(width: int, ratio: int, mlp: str) -> int:
    """Return the size of DINOv2's MLP; of SwiGLU two thirds, rounded up to a multiple of 8.

    With three layers of this size SwiGLU has as many parameters as an MLP with two layers.
    """
    return (int(width * ratio * 2 / 3) + 7) // 8 * 8 if mlp == "swiglu" else width * ratio


def dinov2_mlp_ratio(width: int, mlp_size: int, mlp: str) -> int | None:
    """Return the ratio from which `dinov2_mlp_size` gives this size, or None if there is none."""
    ratios = range(1, 2 * mlp_size // width + 2)
    return next((r for r in ratios if dinov2_mlp_size(width, r, mlp) == mlp_size), None)


def is_dinov2(sizes: ViTConfig) -> bool:
    """Whether transformers can build a DINOv2 of these sizes, and resample its positions."""
    ratio = dinov2_mlp_ratio(sizes.hidden_size, sizes.mlp_size, sizes.mlp)
    return ratio is not None and sizes.grid[0] == sizes.grid[1]


def is_square(sizes: ViTConfig) -> bool:
    """Whether images have equal sides."""
    return len(set(sizes.image_size)) == 1


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
        "Dinov2ForImageClassification",
        "dinov2",
        "classify",
        ViT,
        ViTConfig,
        DINOV2_FIELDS,
        DINOV2,
        suits=is_dinov2,
    ),
    Architecture(
        "Dinov2WithRegistersForImageClassification",
        "dinov2_with_registers",
        "classify",
        ViT,
        ViTConfig,
        DINOV2_FIELDS | {"num_registers": "num_register_tokens"},
        {k: v for k, v in DINOV2.items() if k != "num_registers"} | {"antialias": True},
        suits=lambda sizes: is_dinov2(sizes) and sizes.num_registers > 0,
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
    Architecture(  # the same network as a ViT, and saved as one
        "ViTMSNForImageClassification",
        "vit_msn",
        "classify",
        ViT,
        ViTConfig,
        VIT_FIELDS,
        PLAIN,
        defaults={"layer_norm_eps": 1e-6},
    ),
    Architecture(
        "SiglipForImageClassification",
        "siglip",
        "classify",
        ViT,
        ViTConfig,
        SIGLIP_FIELDS,
        PLAIN | {"pooling": "mean", "qkv_bias": True, "dropout": 0.0},
        defaults={"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
        section=Section(
            "vision_config", {"model_type": "siglip_vision_model", "vision_use_head": False}
        ),
        suits=is_square,
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
        VIT_FIELDS | {name: name for name in ("attention", "head_dim", "mlp")},
        {},
    ),
)
REFUSED = {  # the reason and what to do, by model type
    "siglip2": "Siglip2ForImageClassification takes varying numbers of patches (NaFlex); SigLIP 2 "
    "is supported with a fixed resolution, where the model type is siglip",
}


def architecture_of(network: Network) -> Architecture:
    """Return the architecture that a network's checkpoint is saved as."""
    return next(each for each in ARCHITECTURES if can_save(each, network))


def can_save(architecture: Architecture, network: Network) -> bool:
    """Whether the architecture describes the network completely."""
    return (
        type(network) is architecture.network
        and all(getattr(network.config, name) == v for name, v in architecture.fixed.items())
        and architecture.suits(network.config)
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
    reason = REFUSED.get(model_type) if isinstance(model_type, str) else None
    raise CheckpointError(
        f"config.json: architecture {shown(name)} of model type {shown(model_type)} is not "
        f"supported{f' ({reason})' if reason else ''}; "
        f"supported, each with its trained head: {supported}"
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
