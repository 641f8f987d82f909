"""The contents of config.json, read and written: the architecture, its sizes and its labels."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from reprlib import repr as shown  # of limited length and depth
from typing import Any, get_args

from models.checkpoint.labels import labels_of
from models.checkpoint.layouts import LAYOUTS, SAME
from models.errors import CheckpointError
from models.registry import (
    SEGFORMER_OPTIONS,
    Architecture,
    ProblemType,
    Sizes,
    architecture_named,
)
from models.segformer import SegformerConfig

MAX_LAYERS = 256  # also of all stages together; ViT-22B has 48
MAX_STAGES = 16
MAX_VALUES = {  # of the integers in config.json, by field; several times as large as published ones
    "num_hidden_layers": MAX_LAYERS,
    "depths": MAX_LAYERS,
    "hidden_size": 2**14,
    "hidden_sizes": 2**14,
    "decoder_hidden_size": 2**14,
    "intermediate_size": 2**16,
    "image_size": 2**13,
}
MAX_OTHERS = 2**10  # heads, patch sizes, strides and ratios


@dataclass(frozen=True)
class Configuration:
    """The contents of a config.json: an architecture, its sizes and the meaning of its outputs."""

    architecture: Architecture
    sizes: Sizes
    labels: tuple[str, ...]
    problem_type: ProblemType = "single_label_classification"


def parse(document: Mapping[str, Any], labels: tuple[str, ...] | None = None) -> Configuration:
    """Read a configuration from the contents of config.json.

    Missing fields have Hugging Face's defaults, which our dataclasses have too. Unknown fields are
    ignored.

    Args:
        document: the contents.
        labels: a label for each output; None for those of the document.

    Raises:
        CheckpointError: the architecture is unsupported, or a value is invalid.
    """
    architecture = architecture_named(document.get("architectures"), document.get("model_type"))
    labels = labels_of(document).names if labels is None else labels
    document = LAYOUTS.get(architecture.name, SAME).read_sizes(document)
    section = section_of(document, architecture)
    defaults = {field.name: field.default for field in fields(architecture.config)}
    values = dict(architecture.defaults) | {
        ours: field_value(theirs, section[theirs], defaults[ours])
        for ours, theirs in architecture.fields.items()
        if theirs in section
    }
    try:
        sizes = architecture.config(**values, **architecture.fixed, num_labels=len(labels))
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from error
    if sum(getattr(sizes, "depths", ())) > MAX_LAYERS:
        raise invalid_field("depths", document["depths"], f"{MAX_LAYERS} layers or fewer in all")
    problem_type: ProblemType = document.get("problem_type") or "single_label_classification"
    if problem_type not in get_args(ProblemType):
        raise invalid_field(
            "problem_type", problem_type, f"one of {', '.join(get_args(ProblemType))}"
        )
    return Configuration(architecture, sizes, labels, problem_type)


def section_of(document: Mapping[str, Any], architecture: Architecture) -> Mapping[str, Any]:
    """Return the object of config.json that has the sizes; empty if it is absent or null."""
    if architecture.section is None:
        return document
    name = architecture.section.name
    section = {} if document.get(name) is None else document[name]
    if not isinstance(section, dict):
        raise invalid_field(name, section, "a JSON object")
    return section


def document_of(configuration: Configuration) -> dict[str, Any]:
    """Return the contents of config.json, from which `parse` and transformers read it back."""
    architecture, labels = configuration.architecture, configuration.labels
    document: dict[str, Any] = {
        "architectures": [architecture.name],
        "model_type": architecture.model_type,
        "dtype": "float32",
    }
    sizes: dict[str, Any] = {}
    for ours, theirs in architecture.fields.items():
        value = getattr(configuration.sizes, ours)
        if ours not in SEGFORMER_OPTIONS or value != getattr(SegformerConfig, ours):
            sizes[theirs] = value
    if isinstance(configuration.sizes, SegformerConfig):
        sizes["num_encoder_blocks"] = len(configuration.sizes.depths)
    elif len(set(configuration.sizes.image_size)) == 1:
        sizes["image_size"] = configuration.sizes.image_size[0]  # the usual form of a square
    if (section := architecture.section) is None:
        document |= sizes
    else:
        document[section.name] = {**section.constants, **sizes}
    if configuration.problem_type != "single_label_classification":
        document["problem_type"] = configuration.problem_type
    document = dict(LAYOUTS.get(architecture.name, SAME).write_sizes(document))
    document["id2label"] = {str(index): label for index, label in enumerate(labels)}
    document["label2id"] = {label: index for index, label in enumerate(labels)}
    return document


def field_value(name: str, raw: object, default: object) -> Any:
    """Return the value of a field. CheckpointError if its type is not the default's."""
    match name, default:
        case "image_size", _:
            return integers(name, raw, 2) if isinstance(raw, list) else (integer(name, raw),) * 2
        case "patch_size", _:
            return integer(name, raw[0] if isinstance(raw, list) and raw == raw[:1] * 2 else raw)
        case "num_registers", _ if raw == 0 and type(raw) is int:
            return 0
        case _, tuple():
            return integers(name, raw)
        case _, None:
            return None if raw is None else integer(name, raw)
        case _, bool() | str():
            return like(name, raw, default)
        case _, int():
            return integer(name, raw)
    return number(name, raw)


def like(name: str, raw: object, default: bool | str) -> Any:
    """Check a value that has the type of the default."""
    if not isinstance(raw, type(default)):
        raise invalid_field(name, raw, f"a value like {default!r}")
    return raw


def integers(name: str, raw: object, count: int | None = None) -> tuple[int, ...]:
    """Check a list of positive integers, of length `count` or, without it, 1 to MAX_STAGES."""
    lengths = range(1, MAX_STAGES + 1) if count is None else (count,)
    if not isinstance(raw, list) or len(raw) not in lengths:
        raise invalid_field(name, raw, f"a list of {count or f'1 to {MAX_STAGES}'} integers")
    return tuple(integer(name, n) for n in raw)


def integer(name: str, raw: object) -> int:
    """Check a positive integer, at most the one of MAX_VALUES."""
    most = MAX_VALUES.get(name, MAX_OTHERS)
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 < raw <= most:
        raise invalid_field(name, raw, f"an integer from 1 to {most}")
    return raw


def number(name: str, raw: object) -> float:
    """Check a number from 0 to 1; the float fields of config.json are rates and epsilons."""
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not 0 <= raw <= 1:
        raise invalid_field(name, raw, "a number from 0 to 1")
    return float(raw)


def invalid_field(name: str, raw: object, expected: str) -> CheckpointError:
    """Return the error for a field with an invalid value."""
    return CheckpointError(f"config.json: {name} is {shown(raw)}, not {expected}")
