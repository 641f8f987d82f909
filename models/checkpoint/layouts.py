"""How transformers stores an architecture, where it differs by more than names."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from models.checkpoint import dinov2

Tensors = dict[str, Tensor]
Document = Mapping[str, Any]


class Layout(NamedTuple):
    """The conversion between stored tensors and one tensor for each of our parameters.

    Both sides have the names of transformers, see `parameter_names`.

    Attributes:
        read: converts stored tensors, and drops those that a classifier does not use.
        write: converts back, so that transformers computes the same.
        read_sizes: gives the contents of config.json with the fields that `registry` names.
        write_sizes: converts back.
    """

    read: Callable[[Tensors], Tensors]
    write: Callable[[Tensors], Tensors]
    read_sizes: Callable[[Document], Document] = lambda document: document
    write_sizes: Callable[[Document], Document] = lambda document: document


SAME = Layout(read=lambda tensors: tensors, write=lambda tensors: tensors)
DINOV2 = Layout(
    read=dinov2.read_tensors,
    write=dinov2.write_tensors,
    read_sizes=partial(dinov2.read_sizes, defaults=dinov2.DEFAULTS),
    write_sizes=dinov2.write_sizes,
)
DINOV2_WITH_REGISTERS = DINOV2._replace(
    read_sizes=partial(dinov2.read_sizes, defaults=dinov2.DEFAULTS_WITH_REGISTERS)
)
LAYOUTS: Mapping[str, Layout] = {  # by architecture; others are the same
    "Dinov2ForImageClassification": DINOV2,
    "Dinov2WithRegistersForImageClassification": DINOV2_WITH_REGISTERS,
}
