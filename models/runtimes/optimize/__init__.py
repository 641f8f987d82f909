"""From a plain network to its inference form: the same outputs, sooner.

Knows nothing of checkpoints, nor of who runs the form.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from models.preprocessing import Preprocessing
from models.runtimes.optimize.attention import fuse_qkv
from models.runtimes.optimize.blocks import drop_unread_tokens, fuse_residuals
from models.runtimes.optimize.decoder import fold_decode_head, upsample_by_bags
from models.runtimes.optimize.form import compile_parts, place, split_batches
from models.runtimes.optimize.normalization import fold_normalization
from models.runtimes.optimize.onednn_passes import (
    channels_last,
    convolutions_by_onednn,
    convolutions_pass,
    heads_by_onednn,
    heads_pass,
    linears_by_onednn,
    linears_pass,
)
from models.runtimes.optimize.patches import fold_batch_norms, patches_by_matrix, reduce_by_matrix
from models.runtimes.optimize.rewriting import Transformation

__all__ = ["FOLDINGS", "Step", "Transformation", "fold", "optimize", "steps"]

FOLDINGS: tuple[Transformation, ...] = (
    fold_decode_head,
    fold_batch_norms,
    patches_by_matrix,
    reduce_by_matrix,
    drop_unread_tokens,
    fuse_qkv,
    fuse_residuals,
)
ONEDNN: tuple[tuple[Transformation, Callable[[torch.dtype], bool]], ...] = (
    (linears_by_onednn, linears_pass),
    (convolutions_by_onednn, convolutions_pass),
    (heads_by_onednn, heads_pass),
)


class Step(NamedTuple):
    """One transformation of a network, under its name."""

    name: str
    apply: Transformation


def steps(
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    normalization: Preprocessing | None = None,
    compile: bool = False,
) -> tuple[Step, ...]:
    """What `optimize` does, in order. Each step is applied to what the one before it gave.

    On a CPU the operators of oneDNN are tried, which takes some 50 ms, and left out where they do
    not pay; nothing is compiled there: what the compiler makes is slower than they and the bags.
    """
    device = torch.device(device)
    chosen = [named(folding) for folding in FOLDINGS]
    if normalization is not None:
        folding = partial(fold_normalization, preprocessing=normalization)
        chosen.append(Step("fold_normalization", folding))
    chosen.append(Step("place", partial(place, device=device, dtype=dtype)))
    chosen.append(named(channels_last))
    if device.type == "cpu":
        chosen += [named(step) for step, pays in ONEDNN if pays(dtype)]
        chosen += [named(upsample_by_bags), named(split_batches)]
    elif compile:
        chosen.append(named(compile_parts))
    return tuple(chosen)


def named(step: Transformation) -> Step:
    """A transformation under the name of its function."""
    return Step(step.__name__, step)


def fold(network: nn.Module) -> nn.Module:
    """The network with every folding applied, in torch's public operators and float32."""
    for folding in FOLDINGS:
        network = folding(network)
    return network


def optimize(
    network: nn.Module,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    normalization: Preprocessing | None = None,
    compile: bool = False,
) -> nn.Module:
    """The inference form of a network in eval mode: the same outputs, from the same call.

    With a `normalization` it takes the bytes that this is for, uint8 (B, H, W, 3), in place of
    pixels; a classifier's form has `classify`, too. Logits are of `dtype`. The network stays as it
    is and shares the weights that did not change. The form has no state: any number of threads may
    run it at once, without gradients, on any sizes of batch and image that the network takes. With
    `compile`, on CUDA, torch.compile fuses what is left, which takes tens of seconds.
    """
    for step in steps(device=device, dtype=dtype, normalization=normalization, compile=compile):
        network = step.apply(network)
    return network
