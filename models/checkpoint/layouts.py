"""How transformers stores the parameters of an architecture, where a name alone does not say it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

Tensors = dict[str, Tensor]


class Layout(NamedTuple):
    """The conversion between stored tensors and one tensor for each of our parameters.

    Both sides have the names of transformers, see `parameter_names`.

    Attributes:
        read: converts stored tensors, and drops those that a classifier does not use.
        write: converts back, so that transformers computes the same.
    """

    read: Callable[[Tensors], Tensors]
    write: Callable[[Tensors], Tensors]


SAME = Layout(read=lambda tensors: tensors, write=lambda tensors: tensors)
LAYOUTS: Mapping[str, Layout] = {}  # by architecture; others are the same
