"""From a configuration and stored tensors to a network."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.checkpoint.config import Configuration
from models.checkpoint.dialects import Dialect
from models.checkpoint.layouts import LAYOUTS, SAME
from models.checkpoint.parameter_names import join_names, match_stored_names, possible_names
from models.errors import CheckpointError
from models.registry import Architecture, Network
from models.segformer import Segformer, SegformerClassifier
from models.vit import ViT


class Parameter(NamedTuple):
    """The stored value of a parameter, and its stored name for messages."""

    name: str
    tensor: Tensor


Parameters = Mapping[str, Parameter]  # by our names
HEADS: Mapping[type[Network], str] = {  # the weights with a row for each output
    ViT: "head.weight",
    SegformerClassifier: "head.weight",
    Segformer: "decoder.head.weight",
}


def build(config: Configuration) -> Network:
    """Build the untrained network. CheckpointError if its layers refuse the configuration."""
    try:
        return config.architecture.network(config.sizes)  # type: ignore[arg-type]  # they match
    except ValueError as error:  # for example an unknown activation
        raise CheckpointError(f"config.json: {error}") from error


def outputs_of(
    architecture: Architecture, stored: Mapping[str, Tensor], dialect: Dialect | None
) -> int | None:
    """Return the number of outputs of the stored head, or None if no tensor says it."""
    if (ours := HEADS.get(architecture.network)) is None:
        return None
    names = possible_names(ours, architecture.name) if dialect is None else (dialect.name_of(ours),)
    shape = next((stored[name].shape for name in names if name in stored), ())
    return shape[0] if shape else None


def parameters_of_transformers(
    network: nn.Module, stored: Mapping[str, Tensor], architecture: str
) -> Parameters:
    """Find the parameters of a network among tensors with the names of transformers.

    Raises:
        CheckpointError: names or shapes do not match.
    """
    stored = LAYOUTS.get(architecture, SAME).read(dict(stored))
    names = match_stored_names(network.state_dict(), stored, architecture)
    return of_equal_shape(
        network, {ours: Parameter(theirs, stored[theirs]) for ours, theirs in names.items()}
    )


def parameters_of(network: nn.Module, stored: Mapping[str, Tensor], dialect: Dialect) -> Parameters:
    """Find the parameters of a network among tensors with the names of another library.

    Raises:
        CheckpointError: names or shapes do not match.
    """
    tensors = dialect.tensors(stored, network.state_dict())
    return of_equal_shape(
        network, {ours: Parameter(dialect.name_of(ours), each) for ours, each in tensors.items()}
    )


def of_equal_shape(network: nn.Module, found: Parameters) -> Parameters:
    """Return the parameters. CheckpointError if a shape is not the network's."""
    empty = network.state_dict()
    mismatches = [
        f"{theirs} is {list(tensor.shape)}, not {list(empty[ours].shape)}"
        for ours, (theirs, tensor) in found.items()
        if tensor.shape != empty[ours].shape
    ]
    if mismatches:
        raise CheckpointError(f"tensor shapes do not match config.json: {join_names(mismatches)}")
    return found


def fill(network: nn.Module, found: Parameters) -> None:
    """Give a network on the meta device float32 copies of its stored parameters.

    Raises:
        CheckpointError: a tensor is quantized.
    """
    state = {}
    for ours, empty in network.state_dict().items():
        name, value = found.get(ours) or Parameter(ours, torch.zeros((), dtype=empty.dtype))
        if empty.is_floating_point() and not value.is_floating_point():
            raise CheckpointError(f"{name} is {value.dtype}: quantized weights are not supported")
        state[ours] = value.to(empty.dtype, copy=True)  # may be mapped to a file that changes
    network.load_state_dict(state, assign=True)


def with_background(network: Segformer) -> Segformer:
    """Turn a segmenter with one label into one with two, where the first one is the background.

    In transformers a pixel has the label if the sigmoid of its logit is above 0.5, that is, if the
    logit is above 0. The largest of two logits says the same if that of the background is 0.
    """
    with torch.device("meta"):
        binary = Segformer(replace(network.config, num_labels=2))
    state = network.state_dict()
    for name in ("decoder.head.weight", "decoder.head.bias"):
        state[name] = torch.cat([torch.zeros_like(state[name]), state[name]])
    binary.load_state_dict(state, assign=True)
    return binary
