"""Builds the inference form of a plain network: the same outputs in less time."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from models.preprocessing import Preprocessing
from models.runtimes.optimize.attention import fuse_qkv
from models.runtimes.optimize.blocks import drop_unread_tokens, fuse_residuals
from models.runtimes.optimize.decoder import fold_decode_head, upsample_by_embedding_bag
from models.runtimes.optimize.form import compile_parts, place, split_batches
from models.runtimes.optimize.normalization import fold_normalization
from models.runtimes.optimize.onednn_passes import (
    convolutions_by_onednn,
    heads_by_onednn,
    linears_by_onednn,
    onednn_convolutions_are_faster,
    onednn_heads_are_faster,
    onednn_linears_are_faster,
)
from models.runtimes.optimize.patches import fold_batch_norms, patches_by_matrix, reduce_by_matrix
from models.runtimes.optimize.rewriting import Transformation, channels_last

__all__ = ["FOLDINGS", "Step", "Transformation", "fold", "optimize", "steps"]

FOLDINGS: tuple[Transformation, ...] = (  # use torch's public operators alone, on any device
    fold_decode_head,
    fold_batch_norms,
    patches_by_matrix,
    reduce_by_matrix,
    drop_unread_tokens,
    fuse_qkv,
    fuse_residuals,
)
ONEDNN: tuple[tuple[Transformation, Callable[[torch.dtype], bool]], ...] = (  # with their trials
    (linears_by_onednn, onednn_linears_are_faster),
    (convolutions_by_onednn, onednn_convolutions_are_faster),
    (heads_by_onednn, onednn_heads_are_faster),
)


class Step(NamedTuple):
    """A transformation of a network, and its name."""

    name: str
    apply: Transformation


def optimize(
    network: nn.Module,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    normalization: Preprocessing | None = None,
    compile: bool = False,
) -> nn.Module:
    """Build the inference form of a network, which has the same outputs for the same call.

    The form has no state: any number of threads may run it at once, without gradients, on all batch
    and image sizes that the network accepts. The form of a classifier also has `classify`. The
    network is not modified, and shares the weights that did not change.

    Args:
        network: a plain network in eval mode.
        device: the device of the form.
        dtype: the dtype of computation; the heads and the logits are float32.
        normalization: if given, the form takes uint8 pixels (B, H, W, 3) and normalizes them;
            otherwise it takes normalized pixels (B, 3, H, W).
        compile: on CUDA, fuse the remaining operations with torch.compile, which takes tens of
            seconds.
    """
    for step in steps(device=device, dtype=dtype, normalization=normalization, compile=compile):
        network = step.apply(network)
    return network


def steps(
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    normalization: Preprocessing | None = None,
    compile: bool = False,
) -> tuple[Step, ...]:
    """Return the steps of `optimize` in order; each is applied to the result of the one before.

    On a CPU the first call for a dtype tries oneDNN's operators, which takes from 50 ms to 1 s, and
    all calls omit operators that are not faster. Nothing is compiled there: compiled code is slower
    than oneDNN and `embedding_bag`.
    """
    device = torch.device(device)
    selected = [named(folding) for folding in FOLDINGS]
    if normalization is not None:
        folding = partial(fold_normalization, preprocessing=normalization)
        selected.append(Step("fold_normalization", folding))
    selected.append(Step("place", partial(place, device=device, dtype=dtype)))
    selected.append(named(channels_last))
    if device.type == "cpu":
        selected += [named(step) for step, is_faster in ONEDNN if is_faster(dtype)]
        selected += [named(upsample_by_embedding_bag), named(split_batches)]
    elif compile:
        selected.append(named(compile_parts))
    return tuple(selected)


def named(transformation: Transformation) -> Step:
    """Return the transformation as a step with the name of its function."""
    return Step(transformation.__name__, transformation)


def fold(network: nn.Module) -> nn.Module:
    """Apply every folding; the result uses torch's public operators and keeps the dtype."""
    for folding in FOLDINGS:
        network = folding(network)
    return network
