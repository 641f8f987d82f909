"""The names of the parameters: ours, those on disk, and those in transformers 5's memory.

Knows nothing of tensors or files. Checkpoint files have kept the names of transformers 4, which
transformers 5 renames when it loads and back when it saves; only a state dict that was saved by
hand has the new ones. Both are read, the former is written.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from models.errors import CheckpointError


class Names(NamedTuple):
    """A parameter, or a module with all it holds.

    {s} and {i} stand for the index of stage and block, {name} for any name.
    """

    ours: str
    legacy: str
    modern: str


def under(ours: str, legacy: str, modern: str, names: Iterable[Names]) -> tuple[Names, ...]:
    """The same names inside the given modules."""
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
    *under("encoder.blocks.{i}", "vit.encoder.layer.{i}", "vit.layers.{i}", VIT_BLOCK),
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
    *under(
        "encoder.stages.{s}.patch_embedding",
        "segformer.encoder.patch_embeddings.{s}",
        "segformer.stages.{s}.patch_embeddings",
        PATCH_EMBEDDING,
    ),
    *under(
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
OWN = Names("{name}", "{name}", "{name}")

DIALECTS: dict[str, tuple[Names, ...]] = {
    "ViTForImageClassification": (*VIT, HEAD),
    "DeiTForImageClassification": (*DEIT, HEAD),
    "DeiTForImageClassificationWithTeacher": (*DEIT, *TEACHER_HEADS),
    "SegformerForSemanticSegmentation": (*MIT, *DECODER),
    "SegformerForImageClassification": (*MIT, HEAD),
    "PatchserveViT": (OWN,),  # nobody else has names for these
    "PatchserveViTSegmenter": (OWN,),
}

UNUSED = re.compile(r"(^|\.)pooler\.|\.num_batches_tracked$")  # read by no inference
HEAD_NAMES = re.compile(r"(head|distillation_head|decoder)\..+")
NORM_NAMES = re.compile(r"(.*\.)?norm(_\d)?\.(weight|bias)")


@cache
def pattern(names: Names) -> re.Pattern[str]:
    """What our full parameter names look like: the indices are filled in, a leaf may follow."""
    text = re.escape(names.ours).replace(r"\{name\}", "(?P<name>.+)")
    text = text.replace(r"\{s\}", r"(?P<s>\d+)").replace(r"\{i\}", r"(?P<i>\d+)")
    return re.compile(rf"{text}(?P<leaf>\.\w+)?")


def translate(ours: str, architecture: str) -> tuple[str, str]:
    """Our name of a parameter -> its names on disk and in transformers 5's memory."""
    for names in DIALECTS[architecture]:
        if match := pattern(names).fullmatch(ours):
            index = match.groupdict()
            leaf = index.pop("leaf") or ""
            return names.legacy.format(**index) + leaf, names.modern.format(**index) + leaf
    raise KeyError(f"{ours} has no name in the dialects of {architecture}")


def spellings(ours: str, architecture: str) -> Iterator[str]:
    """Every name the parameter may be stored under; TensorFlow's gamma and beta for norms, too."""
    for name in translate(ours, architecture):
        yield name
        if NORM_NAMES.fullmatch(ours):
            yield re.sub("bias$", "beta", re.sub("weight$", "gamma", name))


def locate(parameters: Iterable[str], stored: Collection[str], architecture: str) -> dict[str, str]:
    """Our names of the parameters -> the names each is stored under.

    CheckpointError, with the names, when some are missing or when others are left over; the pooler
    and the batch counters are neither.
    """
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for ours in parameters:
        spelt = next((name for name in spellings(ours, architecture) if name in stored), None)
        if spelt is not None:
            found[ours] = spelt
        elif not UNUSED.search(ours):
            missing[ours] = translate(ours, architecture)[0]
    left_over = sorted(k for k in set(stored) - set(found.values()) if not UNUSED.search(k))
    if missing or left_over:
        raise CheckpointError(complaint(missing, left_over, architecture))
    return found


def complaint(missing: Mapping[str, str], left_over: list[str], architecture: str) -> str:
    """What is wrong with the names, in one sentence."""
    parts = []
    if missing:
        parts.append(f"missing keys: {listing(list(missing.values()))}")
    if left_over:
        parts.append(f"unexpected keys: {listing(left_over)}")
    if any(HEAD_NAMES.fullmatch(ours) for ours in missing):
        parts.append("it has no complete trained head; a bare backbone cannot be served")
    return f"the weights are not those of a {architecture}: {'; '.join(parts)}"


def listing(names: list[str], limit: int = 20) -> str:
    """The names, or the first of them and how many more there are."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
