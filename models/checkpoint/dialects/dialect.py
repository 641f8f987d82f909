"""How a library writes its checkpoints, and how they become ours."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from models.checkpoint.parameter_names import UNUSED, mismatch_message
from models.checkpoint.stored import Stored
from models.errors import CheckpointError
from models.preprocessing import Preprocessing


class Rename(NamedTuple):
    """Their name of a parameter, or of a module with all its parameters, and ours.

    {s} and {i} stand for the index of a stage and a block. With several names of ours, the stored
    tensor is these parameters, stacked on the first axis; with none, it is not used.
    """

    theirs: str
    ours: str | tuple[str, ...]

    @property
    def all_ours(self) -> tuple[str, ...]:
        """Our names."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours


class Dialect(NamedTuple):
    """How a library writes the checkpoints of a family.

    Attributes:
        name: of the family, for messages.
        recognizes: whether the files are of this family.
        document: gives what transformers would write to config.json for this network, from the
            files and the name of the architecture, which is empty if the user did not give it.
        preprocessing: gives the preprocessing and whether it is assumed, because no file says it.
        names: of the parameters.
        adapt: changes the tensors by our names where the mathematics are written differently.
    """

    name: str
    recognizes: Callable[[Stored], bool]
    document: Callable[[Stored, str], dict[str, Any]]
    preprocessing: Callable[[Stored], tuple[Preprocessing, bool]]
    names: Sequence[Rename]
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors

    def tensors(self, stored: Mapping[str, Tensor], parameters: Iterable[str]) -> dict[str, Tensor]:
        """Return the stored tensors by our names.

        Args:
            stored: by their names.
            parameters: our names, all of which must be found.

        Raises:
            CheckpointError: names are missing or unexpected; the message lists them.
        """
        found, unexpected = renamed(stored, self.names)
        found = self.adapt(found)
        wanted = {name for name in parameters if not UNUSED.search(name)}
        missing = {name: self.name_of(name) for name in sorted(wanted - found.keys())}
        unexpected += [self.name_of(name) for name in sorted(found.keys() - wanted)]
        if missing or unexpected:
            raise CheckpointError(mismatch_message(missing, unexpected, self.name))
        return found

    def name_of(self, parameter: str) -> str:
        """Return the stored name of our parameter, for a message; ours if it has none."""
        for rename in self.names:
            for ours in rename.all_ours:
                if match := pattern(ours).fullmatch(parameter):
                    return filled(rename.theirs, match)
        return parameter


def shape_of(tensors: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    """Return the shape of a stored tensor.

    Raises:
        CheckpointError: the tensor is missing, is empty, or has another number of axes.
    """
    if name not in tensors:
        raise CheckpointError(f"there is no tensor {name}")
    shape = tuple(tensors[name].shape)
    if len(shape) != axes or 0 in shape:
        raise CheckpointError(f"{name} is {list(shape)}, not a tensor of {axes} axes with values")
    return shape


def renamed(
    stored: Mapping[str, Tensor], names: Sequence[Rename]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by our names, and the stored names that have none."""
    found: dict[str, Tensor] = {}
    unknown = []
    for key, tensor in stored.items():
        ours = ours_of(key, names)
        if ours is None or any(name in found for name in ours):
            unknown.append(key)
        elif len(ours) > 1 and (not tensor.ndim or tensor.shape[0] % len(ours)):
            raise CheckpointError(
                f"{key} is {list(tensor.shape)}, not {len(ours)} stacked tensors of equal shape"
            )
        elif len(ours) == 1:
            found[ours[0]] = tensor
        elif ours:
            found.update(zip(ours, tensor.tensor_split(len(ours)), strict=True))
    return found, unknown


def ours_of(key: str, names: Sequence[Rename]) -> tuple[str, ...] | None:
    """Return our names of a stored tensor, or None if there are none."""
    for rename in names:
        if match := pattern(rename.theirs).fullmatch(key):
            return tuple(filled(name, match) for name in rename.all_ours)
    return None


def filled(name: str, match: re.Match[str]) -> str:
    """Fill the indices and the leaf of a match into another name."""
    index = match.groupdict()
    leaf = index.pop("leaf") or ""
    return name.format(**index) + leaf


@cache
def pattern(name: str) -> re.Pattern[str]:
    """Return the pattern of a name: indices filled in, then optionally .weight, .bias etc."""
    text = re.escape(name).replace(r"\{s\}", r"(?P<s>\d+)").replace(r"\{i\}", r"(?P<i>\d+)")
    return re.compile(rf"{text}(?P<leaf>\.(weight|bias|running_mean|running_var))?")
