"""Parameter names of the networks: ours, names in checkpoint files, and names in transformers 5.

Checkpoint files have the names of transformers 4 ("legacy" here). transformers 5 renames the
parameters when it loads a file and back when it saves it, so only a state dict that was saved
directly has its own names ("modern"). patchserve reads both and writes the legacy names.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from models.errors import CheckpointError


class Names(NamedTuple):
    """The three names of a parameter, or of a module with all its parameters.

    {s} and {i} stand for the index of a stage and a block, {name} for any name.
    """

    ours: str
    legacy: str
    modern: str


def with_prefix(ours: str, legacy: str, modern: str, names: Iterable[Names]) -> tuple[Names, ...]:
    """Prepend the names of the module that contains these parameters."""
    return tuple(
        Names(f"{ours}.{name.ours}", f"{legacy}.{name.legacy}", f"{modern}.{name.modern}")
        for name in names
    )


VIT_BLOCK = (
    Names("norm_1", "layernorm_before", "layernorm_before"),
    Names("attention.query", "attention.attention.query", "attention.q_proj"),
    Names("attention.key", "attention.attention.key", "attention.k_proj"),
    Names("attention.value", "attention.attention.value", "attention.v_proj"),
    Names("attention.output", "attention.output.dense", "attention.o_proj"),
    Names("norm_2", "layernorm_after", "layernorm_after"),
    Names("mlp.expand", "intermediate.dense", "mlp.fc1"),
    Names("mlp.contract", "output.dense", "mlp.fc2"),
)
VIT = (
    Names("class_token", "vit.embeddings.cls_token", "vit.embeddings.cls_token"),
    Names("positions", "vit.embeddings.position_embeddings", "vit.embeddings.position_embeddings"),
    Names(
        "patch_embedding.projection",
        "vit.embeddings.patch_embeddings.projection",
        "vit.embeddings.patch_embeddings.projection",
    ),
    *with_prefix("encoder.blocks.{i}", "vit.encoder.layer.{i}", "vit.layers.{i}", VIT_BLOCK),
    Names("norm", "vit.layernorm", "vit.layernorm"),
)
DEIT = (
    *(
        Names(n.ours, re.sub("^vit", "deit", n.legacy), re.sub("^vit", "deit", n.modern))
        for n in VIT
    ),
    Names(
        "distillation_token",
        "deit.embeddings.distillation_token",
        "deit.embeddings.distillation_token",
    ),
)
SIGLIP_BLOCK = (
    Names("norm_1", "layer_norm1", "layer_norm1"),
    Names("attention.query", "self_attn.q_proj", "self_attn.q_proj"),
    Names("attention.key", "self_attn.k_proj", "self_attn.k_proj"),
    Names("attention.value", "self_attn.v_proj", "self_attn.v_proj"),
    Names("attention.output", "self_attn.out_proj", "self_attn.out_proj"),
    Names("norm_2", "layer_norm2", "layer_norm2"),
    Names("mlp.expand", "mlp.fc1", "mlp.fc1"),
    Names("mlp.contract", "mlp.fc2", "mlp.fc2"),
)
SIGLIP = (
    Names(
        "positions",
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.embeddings.position_embedding.weight",
    ),
    Names(
        "patch_embedding.projection",
        "vision_model.embeddings.patch_embedding",
        "vision_model.embeddings.patch_embedding",
    ),
    *with_prefix(
        "encoder.blocks.{i}",
        "vision_model.encoder.layers.{i}",
        "vision_model.encoder.layers.{i}",
        SIGLIP_BLOCK,
    ),
    Names("norm", "vision_model.post_layernorm", "vision_model.post_layernorm"),
)
DINOV2_BLOCK = (  # layer scale is folded into the output layers, see `layouts`
    Names("norm_1", "norm1", "norm1"),
    Names("attention.query", "attention.attention.query", "attention.q_proj"),
    Names("attention.key", "attention.attention.key", "attention.k_proj"),
    Names("attention.value", "attention.attention.value", "attention.v_proj"),
    Names("attention.output", "attention.output.dense", "attention.o_proj"),
    Names("norm_2", "norm2", "norm2"),
    Names("mlp.expand", "mlp.fc1", "mlp.fc1"),
    Names("mlp.contract", "mlp.fc2", "mlp.fc2"),
    Names("mlp.gate_up", "mlp.weights_in", "mlp.weights_in"),  # new: gate_proj and up_proj
    Names("mlp.down", "mlp.weights_out", "mlp.down_proj"),
)


def dinov2(prefix: str) -> tuple[Names, ...]:
    """Return the names of a DINOv2 without its head."""
    modules = {
        "class_token": "embeddings.cls_token",
        "registers": "embeddings.register_tokens",
        "positions": "embeddings.position_embeddings",
        "patch_embedding.projection": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    layer = f"{prefix}.encoder.layer.{{i}}"
    return (
        *(Names(ours, f"{prefix}.{name}", f"{prefix}.{name}") for ours, name in modules.items()),
        *with_prefix("encoder.blocks.{i}", layer, layer, DINOV2_BLOCK),
    )


SEGFORMER_BLOCK = (
    Names("norm_1", "layer_norm_1", "layernorm_before"),
    Names("attention.query", "attention.self.query", "attention.q_proj"),
    Names("attention.key", "attention.self.key", "attention.k_proj"),
    Names("attention.value", "attention.self.value", "attention.v_proj"),
    Names("attention.output", "attention.output.dense", "attention.o_proj"),
    Names(
        "attention.reduction.convolution",
        "attention.self.sr",
        "attention.sequence_reduction.sequence_reduction",
    ),
    Names(
        "attention.reduction.norm",
        "attention.self.layer_norm",
        "attention.sequence_reduction.layer_norm",
    ),
    Names("norm_2", "layer_norm_2", "layernorm_after"),
    Names("mlp.expand", "mlp.dense1", "mlp.fc1"),
    Names("mlp.depthwise", "mlp.dwconv.dwconv", "mlp.dwconv.dwconv"),
    Names("mlp.contract", "mlp.dense2", "mlp.fc2"),
)
PATCH_EMBEDDING = (
    Names("projection", "proj", "proj"),
    Names("norm", "layer_norm", "layer_norm"),
)
MIT = (
    *with_prefix(
        "encoder.stages.{s}.patch_embedding",
        "segformer.encoder.patch_embeddings.{s}",
        "segformer.stages.{s}.patch_embeddings",
        PATCH_EMBEDDING,
    ),
    *with_prefix(
        "encoder.stages.{s}.blocks.{i}",
        "segformer.encoder.block.{s}.{i}",
        "segformer.stages.{s}.blocks.{i}",
        SEGFORMER_BLOCK,
    ),
    Names(
        "encoder.stages.{s}.norm",
        "segformer.encoder.layer_norm.{s}",
        "segformer.stages.{s}.layer_norm",
    ),
)
DECODER = (
    Names(
        "decoder.projections.{s}",
        "decode_head.linear_c.{s}.proj",
        "decode_head.linear_projections.{s}.proj",
    ),
    Names("decoder.fuse", "decode_head.linear_fuse", "decode_head.linear_fuse"),
    Names("decoder.norm", "decode_head.batch_norm", "decode_head.batch_norm"),
    Names("decoder.head", "decode_head.classifier", "decode_head.classifier"),
)
HEAD = Names("head", "classifier", "classifier")
TEACHER_HEADS = (
    Names("head", "cls_classifier", "cls_classifier"),
    Names("distillation_head", "distillation_classifier", "distillation_classifier"),
)
UNCHANGED = Names("{name}", "{name}", "{name}")

NAMES: dict[str, tuple[Names, ...]] = {  # by architecture
    "ViTForImageClassification": (*VIT, HEAD),
    "DeiTForImageClassification": (*DEIT, HEAD),
    "DeiTForImageClassificationWithTeacher": (*DEIT, *TEACHER_HEADS),
    "Dinov2ForImageClassification": (*dinov2("dinov2"), HEAD),
    "Dinov2WithRegistersForImageClassification": (*dinov2("dinov2_with_registers"), HEAD),
    "SegformerForSemanticSegmentation": (*MIT, *DECODER),
    "SegformerForImageClassification": (*MIT, HEAD),
    "ViTMSNForImageClassification": (*VIT, HEAD),
    "SiglipForImageClassification": (*SIGLIP, HEAD),
    "PatchserveViT": (UNCHANGED,),  # transformers does not have these architectures
    "PatchserveViTSegmenter": (UNCHANGED,),
}

UNUSED = re.compile(r"(^|\.)pooler\.|\.num_batches_tracked$")  # inference does not need these
HEAD_NAMES = re.compile(r"(head|distillation_head|decoder)\..+")
NORM_NAMES = re.compile(r"(.*\.)?norm(_\d)?\.(weight|bias)")


@cache
def pattern(names: Names) -> re.Pattern[str]:
    """Return the pattern of our parameter names: indices filled in, then optionally .weight etc."""
    text = re.escape(names.ours).replace(r"\{name\}", "(?P<name>.+)")
    text = text.replace(r"\{s\}", r"(?P<s>\d+)").replace(r"\{i\}", r"(?P<i>\d+)")
    return re.compile(rf"{text}(?P<leaf>\.\w+)?")


def translate(ours: str, architecture: str) -> tuple[str, str]:
    """Return the legacy and the modern name of a parameter. KeyError for an unknown parameter."""
    for names in NAMES[architecture]:
        if match := pattern(names).fullmatch(ours):
            index = match.groupdict()
            leaf = index.pop("leaf") or ""
            return names.legacy.format(**index) + leaf, names.modern.format(**index) + leaf
    raise KeyError(f"{ours} is not a known parameter of {architecture}")


def possible_names(ours: str, architecture: str) -> Iterator[str]:
    """Yield all names that files may use; norms also have TensorFlow's gamma and beta."""
    for name in translate(ours, architecture):
        yield name
        if NORM_NAMES.fullmatch(ours):
            yield re.sub("bias$", "beta", re.sub("weight$", "gamma", name))


def match_stored_names(
    parameters: Iterable[str], stored: Collection[str], architecture: str
) -> dict[str, str]:
    """Return the stored name of each parameter, by our name.

    The pooler and the batch counters of BatchNorm may be missing or left over.

    Raises:
        CheckpointError: stored names are missing or unexpected; the message lists them.
    """
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for ours in parameters:
        name = next((n for n in possible_names(ours, architecture) if n in stored), None)
        if name is not None:
            found[ours] = name
        elif not UNUSED.search(ours):
            missing[ours] = translate(ours, architecture)[0]
    unexpected = sorted(k for k in set(stored) - set(found.values()) if not UNUSED.search(k))
    if missing or unexpected:
        raise CheckpointError(mismatch_message(missing, unexpected, architecture))
    return found


def mismatch_message(missing: Mapping[str, str], unexpected: list[str], architecture: str) -> str:
    """Describe the missing (ours: stored) and the unexpected names in one sentence."""
    parts = []
    if missing:
        parts.append(f"missing keys: {join_names(list(missing.values()))}")
    if unexpected:
        parts.append(f"unexpected keys: {join_names(unexpected)}")
    if any(HEAD_NAMES.fullmatch(ours) for ours in missing):
        parts.append(
            "there is no complete trained head; a bare backbone cannot be served: "
            "patchserve train --from trains a head"
        )
    return f"the weights do not fit a {architecture}: {'; '.join(parts)}"


def join_names(names: Sequence[str], limit: int = 20) -> str:
    """Join the names with commas; beyond `limit`, state only how many more there are."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
