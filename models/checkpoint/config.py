"""The document config.json: which network it describes, its sizes, its labels; both ways.

Knows nothing of weights, nor of where the document lies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from models.errors import CheckpointError
from models.registry import Architecture, Sizes, architecture_named
from models.segformer import SegformerConfig


@dataclass(frozen=True)
class Configuration:
    """What a config.json says: the architecture, its sizes, and what its outputs mean."""

    architecture: Architecture
    sizes: Sizes
    labels: tuple[str, ...]
    multi_label: bool


def parse(document: Mapping[str, Any]) -> Configuration:
    """Read the document; CheckpointError for what is not served here or makes no sense.

    Absent fields have Hugging Face's defaults, which are those of our dataclasses; unknown fields
    are ignored.
    """
    architecture = architecture_named(document.get("architectures"), document.get("model_type"))
    labels = labels_of(document)
    if (channels := document.get("num_channels", 3)) != 3:
        raise CheckpointError(
            f"config.json: num_channels is {channels!r}; only 3, for RGB, is supported"
        )
    defaults = {field.name: field.default for field in fields(architecture.config)}
    given = {
        ours: field_value(theirs, document[theirs], defaults[ours])
        for ours, theirs in architecture.fields.items()
        if theirs in document
    }
    try:
        sizes = architecture.config(**given, **architecture.fixed, num_labels=len(labels))
    except ValueError as error:
        raise CheckpointError(f"config.json: {error}") from error
    multi_label = document.get("problem_type") == "multi_label_classification"
    return Configuration(architecture, sizes, labels, multi_label)


def document_of(configuration: Configuration) -> dict[str, Any]:
    """The document that `parse`, and transformers, read the same configuration from."""
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
        document["image_size"] = configuration.sizes.image_size[0]  # as everyone writes a square
    if configuration.multi_label:
        document["problem_type"] = "multi_label_classification"
    document["id2label"] = {str(index): label for index, label in enumerate(labels)}
    document["label2id"] = {label: index for index, label in enumerate(labels)}
    return document


def labels_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels by index; LABEL_0, LABEL_1, ... of `num_labels` (2) when there is no id2label."""
    by_index = document.get("id2label")
    if by_index is None:
        count = integer("num_labels", document.get("num_labels", 2))
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(by_index, dict) or not all(isinstance(v, str) for v in by_index.values()):
        raise CheckpointError("config.json: id2label is no table of names by index")
    wanted = [str(index) for index in range(len(by_index))]
    if not by_index or by_index.keys() != set(wanted):
        raise CheckpointError(
            f"config.json: id2label does not number its {len(by_index)} labels from 0 on"
        )
    return tuple(by_index[index] for index in wanted)


def field_value(name: str, raw: object, default: object) -> Any:
    """The value of a field, checked against the kind of its default."""
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
            raise unfit(name, raw, f"a value like {default!r}")
        case _, int():
            return integer(name, raw)
    return number(name, raw)


def integers(name: str, raw: object, count: int | None = None) -> tuple[int, ...]:
    """A list of counts, `count` of them or any number but none."""
    if not isinstance(raw, list) or not raw or len(raw) != (count or len(raw)):
        raise unfit(name, raw, f"a list of {count or 'some'} numbers")
    return tuple(integer(name, n) for n in raw)


def integer(name: str, raw: object) -> int:
    """A positive number of something, small enough to be meant."""
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 < raw <= 2**20:
        raise unfit(name, raw, "a count from 1 to 2^20")
    return raw


def number(name: str, raw: object) -> float:
    """A number from 0 to 1: all that config.json has are rates and epsilons."""
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not 0 <= raw <= 1:
        raise unfit(name, raw, "a number from 0 to 1")
    return float(raw)


def unfit(name: str, raw: object, wanted: str) -> CheckpointError:
    """The error for a field whose value is of the wrong kind."""
    return CheckpointError(f"config.json: {name} is {raw!r}, not {wanted}")
