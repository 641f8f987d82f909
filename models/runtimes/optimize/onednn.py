"""oneDNN's operators, which torch keeps to itself, behind functions of our own.

Knows nothing of modules. They are the ones that torch.compile emits: a matrix product or a
convolution with its activation or its residual in one pass, with weights laid out beforehand.
They may vanish or change with any release of torch: a trial runs before their use.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

Eltwise = tuple[str, list[float], str]  # name, numbers, algorithm

SIDE = 224  # of the image to lay a convolution's weights out for: told none, it may choose badly
ROWS = 64  # to lay weights out for: measured best for any number of rows, 1 to 16384
NONE: Eltwise = ("none", [], "")
POINTWISE = ([0, 0], [1, 1], [1, 1])  # padding, stride and dilation of 1 x 1


def eltwise(activation: nn.Module | None) -> Eltwise | None:
    """What oneDNN calls an activation: name, numbers and algorithm; None if it has no name."""
    match activation:
        case None | nn.Identity():
            return NONE
        case nn.GELU(approximate=algorithm):
            return "gelu", [], algorithm
        case nn.ReLU():
            return "relu", [], ""
    return None


def pack_linear(weight: Tensor) -> Tensor:
    """The weight (D, C) of a linear layer in the layout that oneDNN likes best; opaque."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    return packed


def linear(x: Tensor, packed: Tensor, bias: Tensor | None, activation: Eltwise = NONE) -> Tensor:
    """activation(x W^T + b): (..., C) -> (..., D)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, *activation)
    return y


def linear_add(x: Tensor, residual: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b + residual: (..., C) and (..., D) -> (..., D)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, packed, bias, "add")
    return y


def pack_convolution(layer: nn.Conv2d) -> Tensor:
    """The weight of a convolution in the layout that oneDNN likes best; opaque."""
    shape = (layer.padding, layer.stride, layer.dilation, layer.groups)
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        layer.weight.detach(), *shape, [1, layer.in_channels, SIDE, SIDE]
    )
    return packed


def convolution(x: Tensor, packed: Tensor, layer: nn.Conv2d, activation: Eltwise) -> Tensor:
    """activation(layer(x)): (B, C, H, W) -> (B, D, H', W'), channels-last if x is."""
    shape = (layer.padding, layer.stride, layer.dilation, layer.groups)
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, packed, layer.bias, *shape, *activation)
    return y


def grouped_product(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Each group of columns times its own matrix: (N, groups C), (groups, D, C) -> (N, groups D).

    A convolution of 1 x 1 whose image x is one row of N pixels.
    """
    image = x[None, None].permute(0, 3, 1, 2)  # (1, groups C, 1, N), channels-last
    kernel = weight.flatten(0, 1)[..., None, None]  # (groups D, C, 1, 1)
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        image, kernel, None, *POINTWISE, groups, *NONE
    )
    return y.permute(0, 2, 3, 1)[0, 0]  # (N, groups D)


def add_rectified_(total: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """relu(total + x W^T + b) of grids (B, H, W, D) and (B, H, W, C), in the total's memory.

    The weight (D, C) is not packed: a layout good for one grid may be ten times slower on others.
    """
    image, out = x.permute(0, 3, 1, 2), total.permute(0, 3, 1, 2)
    torch.ops.mkldnn._convolution_pointwise_.binary(
        out, image, weight[..., None, None], bias, *POINTWISE, 1, "add", 1.0, "relu", [], ""
    )
    return total


ROUNDS = range(8, 64)  # at least and at most; the quickest counts, as other load only slows down
CLEARLY = 0.9  # of the plain module's time: no further rounds
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@torch.inference_mode()
def passes(build: Callable[[], nn.Module], plain: nn.Module, *inputs: Tensor | None) -> bool:
    """Whether what is built works here, gives what the plain module gives, and sooner.

    Errors are relative to the largest output. Takes a few milliseconds.
    """
    try:
        candidate = build()
        ours, right = candidate(*inputs), plain(*inputs)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    error = (ours - right).abs().max() / right.abs().max()
    if not error <= TOLERANCE[right.dtype]:  # nor is NaN
        return False
    return quicker(lambda: seconds(candidate, *inputs), lambda: seconds(plain, *inputs))


def quicker(ours: Callable[[], float], theirs: Callable[[], float]) -> bool:
    """Whether the least of our times is below the least of theirs, taken in turns."""
    least, other = ours(), theirs()
    for done in range(1, ROUNDS.stop):
        if done >= ROUNDS.start and least < CLEARLY * other:
            break
        least, other = min(least, ours()), min(other, theirs())
    return least < other


def seconds(module: nn.Module, *inputs: Tensor | None) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    module(*inputs)
    return time.perf_counter() - began
