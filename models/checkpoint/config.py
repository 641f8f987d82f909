"""The contents of config.json, read and written: the architecture, its sizes and its labels."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from models.errors import CheckpointError
from models.registry import Architecture, ProblemType, Sizes, architecture_named
from models.segformer import SegformerConfig


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
    if (channels := document.get("num_channels", 3)) != 3:
        raise CheckpointError(
            f"config.json: num_channels is {channels!r}; only 3 (RGB) is supported"
        )
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
        "num_channels": 3,
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
        case _, bool() | str() if isinstance(raw, type(default)):
            return raw
        case _, bool() | str():
            raise invalid_field(name, raw, f"a value like {default!r}")
        case _, int():
            return integer(name, raw)
    return number(name, raw)


def integers(name: str, raw: object, count: int | None = None) -> tuple[int, ...]:
    """Check a list of positive integers, of length `count` or, without it, any length but 0."""
    if not isinstance(raw, list) or not raw or len(raw) != (count or len(raw)):
        raise invalid_field(name, raw, f"a list of {f'{count} ' if count else ''}integers")
    return tuple(integer(name, n) for n in raw)


def integer(name: str, raw: object) -> int:
    """Check a positive integer; larger ones than 2^20 are mistakes."""
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 < raw <= 2**20:
        raise invalid_field(name, raw, "an integer from 1 to 2^20")
    return raw


def number(name: str, raw: object) -> float:
    """Check a number from 0 to 1; the float fields of config.json are rates and epsilons."""
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not 0 <= raw <= 1:
        raise invalid_field(name, raw, "a number from 0 to 1")
    return float(raw)


def invalid_field(name: str, raw: object, expected: str) -> CheckpointError:
    """Return the error for a field with an invalid value."""
    return CheckpointError(f"config.json: {name} is {raw!r}, not {expected}")
