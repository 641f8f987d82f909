"""The contents of config.json, read and written: the architecture, its sizes and its labels."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from reprlib import repr as shown  # of limited length and depth
from typing import Any, get_args

from models.errors import CheckpointError
from models.registry import Architecture, ProblemType, Sizes, architecture_named
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
    "num_labels": 2**17,
}
MAX_OTHERS = 2**10  # heads, patch sizes, strides and ratios


@dataclass(frozen=True)
class Configuration:
    """The contents of a config.json: an architecture, its sizes and the meaning of its outputs."""

    architecture: Architecture
    sizes: Sizes
    labels: tuple[str, ...]
    problem_type: ProblemType = "single_label_classification"


def parse(document: Mapping[str, Any]) -> Configuration:
    """Read a configuration from the contents of config.json.

    Missing fields have Hugging Face's defaults, which our dataclasses have too. Unknown fields are
    ignored.

    Raises:
        CheckpointError: the architecture is unsupported, or a value is invalid.
    """
    architecture = architecture_named(document.get("architectures"), document.get("model_type"))
    labels = labels_of(document)
    defaults = {field.name: field.default for field in fields(architecture.config)}
    values = {
        ours: field_value(theirs, document[theirs], defaults[ours])
        for ours, theirs in architecture.fields.items()
        if theirs in document
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


def document_of(configuration: Configuration) -> dict[str, Any]:
    """Return the contents of config.json, from which `parse` and transformers read it back."""
    architecture, labels = configuration.architecture, configuration.labels
    document: dict[str, Any] = {
        "architectures": [architecture.name],
        "model_type": architecture.model_type,
        "dtype": "float32",
    }
    for ours, theirs in architecture.fields.items():
        document[theirs] = getattr(configuration.sizes, ours)
    if isinstance(configuration.sizes, SegformerConfig):
        document["num_encoder_blocks"] = len(configuration.sizes.depths)
    elif len(set(configuration.sizes.image_size)) == 1:
        document["image_size"] = configuration.sizes.image_size[0]  # the usual form of a square
    if configuration.problem_type != "single_label_classification":
        document["problem_type"] = configuration.problem_type
    document["id2label"] = {str(index): label for index, label in enumerate(labels)}
    document["label2id"] = {label: index for index, label in enumerate(labels)}
    return document


def labels_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels by index; without id2label, `num_labels` (default 2) names like LABEL_0."""
    by_index = document.get("id2label")
    if by_index is None:
        count = integer("num_labels", document.get("num_labels", 2))
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(by_index, dict) or not all(isinstance(v, str) for v in by_index.values()):
        raise CheckpointError("config.json: id2label is not a JSON object from indices to names")
    indices = [str(index) for index in range(len(by_index))]
    if by_index:
        integer("num_labels", len(by_index))
    if not by_index or by_index.keys() != set(indices):
        raise CheckpointError(
            f"config.json: id2label does not number its {len(by_index)} labels from 0 without gaps"
        )
    return tuple(by_index[index] for index in indices)


def field_value(name: str, raw: object, default: object) -> Any:
    """Return the value of a field. CheckpointError if its type is not the default's."""
    match name, default:
        case "image_size", _:
            return integers(name, raw, 2) if isinstance(raw, list) else (integer(name, raw),) * 2
        case "patch_size", _:
            return integer(name, raw[0] if isinstance(raw, list) and raw == raw[:1] * 2 else raw)
        case _, tuple():
            return integers(name, raw)
        case _, None:
            return None if raw is None else integer(name, raw)
        case _, bool() | str() if isinstance(raw, type(default)):
            return raw
        case _, bool() | str():
            raise invalid_field(name, raw, f"a value like {default!r}")
        case _, int():
            return integer(name, raw)
    return number(name, raw)


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
