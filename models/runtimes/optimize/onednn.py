"""oneDNN's operators, which are private in torch, and the trial that each must pass before use.

torch.compile emits the same operators: a matrix product or a convolution with its
activation or residual in one pass, and with prepacked weights. They may change or disappear with
any release of torch.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

PostOp = tuple[str, list[float], str]  # name, parameters, algorithm of a fused activation

NO_POST_OP: PostOp = ("none", [], "")
POINTWISE = ([0, 0], [1, 1], [1, 1])  # padding, stride and dilation of a 1 x 1 convolution
# image side to pack convolution weights for; without it oneDNN may choose a slow layout
PACKING_SIDE = 224
PACKING_ROWS = 64  # rows to pack linear weights for: measured best for 1 to 16384 rows

MIN_ROUNDS, MAX_ROUNDS = 8, 64  # timed calls; the minimum counts, as other load only adds time
MAX_TRIAL_S = 0.3  # after MIN_ROUNDS: calls that take so long are nearly equally fast
EARLY_STOP_RATIO = 0.9  # stop after MIN_ROUNDS if below this part of the plain module's time
TOLERANCE = {  # error of the trial, relative to the largest output
    torch.float32: 1e-5,
    torch.bfloat16: 3e-2,
    torch.float16: 4e-3,
}


def post_op(activation: nn.Module | None) -> PostOp | None:
    """Return oneDNN's post-op for an activation; None if it has none."""
    match activation:
        case None | nn.Identity():
            return NO_POST_OP
        case nn.GELU(approximate=algorithm):
            return "gelu", [], algorithm
        case nn.ReLU():
            return "relu", [], ""
    return None


def pack_linear(weight: Tensor) -> Tensor:
    """Convert the weight (D, C) of a linear layer to oneDNN's opaque layout."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, PACKING_ROWS)
    return packed


def linear(x: Tensor, packed: Tensor, bias: Tensor | None, activation: PostOp) -> Tensor:
    """activation(x W^T + b): (..., C) -> (..., D)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, *activation)
    return y


def linear_add(x: Tensor, residual: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b + residual: (..., C) and (..., D) -> (..., D)."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, packed, bias, "add")
    return y


def linear_add_relu_(total: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """relu(total + x W^T + b) of grids (B, H, W, D) and (B, H, W, C), in place of the total.

    The weight (D, C) is not packed: a layout that is good for one grid may be ten times slower for
    others.
    """
    image, out = x.permute(0, 3, 1, 2), total.permute(0, 3, 1, 2)
    torch.ops.mkldnn._convolution_pointwise_.binary(
        out, image, weight[..., None, None], bias, *POINTWISE, 1, "add", 1.0, "relu", [], ""
    )
    return total


def pack_convolution(layer: nn.Conv2d) -> Tensor:
    """Convert the weight of a convolution to oneDNN's opaque layout."""
    shape = (layer.padding, layer.stride, layer.dilation, layer.groups)
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        layer.weight.detach(), *shape, [1, layer.in_channels, PACKING_SIDE, PACKING_SIDE]
    )
    return packed


def convolution(x: Tensor, packed: Tensor, layer: nn.Conv2d, activation: PostOp) -> Tensor:
    """activation(layer(x)): (B, C, H, W) -> (B, D, H', W'), channels-last if x is."""
    shape = (layer.padding, layer.stride, layer.dilation, layer.groups)
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, packed, layer.bias, *shape, *activation)
    return y


def grouped_product(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Multiply each group of columns by its matrix: (N, g C), (g, D, C) -> (N, g D) for g groups.

    Computed as a grouped 1 x 1 convolution of an image that has one row of N pixels.
    """
    image = x[None, None].permute(0, 3, 1, 2)  # (1, g C, 1, N), channels-last
    kernel = weight.flatten(0, 1)[..., None, None]  # (g D, C, 1, 1)
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        image, kernel, None, *POINTWISE, groups, *NO_POST_OP
    )
    return y.permute(0, 2, 3, 1)[0, 0]  # (N, g D)


@torch.inference_mode()
def is_correct_and_faster(
    build: Callable[[], nn.Module], plain: nn.Module, *inputs: Tensor | None
) -> bool:
    """Try a candidate: whether it runs here, equals the plain module and takes less time.

    Takes from a few milliseconds to `MAX_TRIAL_S`, or longer for `MIN_ROUNDS` slow calls.

    Args:
        build: creates the candidate; a missing operator may make it fail.
        plain: the module to compare with.
        inputs: the arguments of both.
    """
    try:
        candidate = build()
        output, expected = candidate(*inputs), plain(*inputs)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    error = (output - expected).abs().max() / expected.abs().max()
    if not error <= TOLERANCE[expected.dtype]:  # also refuses NaN
        return False
    return is_faster(lambda: seconds(candidate, *inputs), lambda: seconds(plain, *inputs))


def is_faster(time_candidate: Callable[[], float], time_plain: Callable[[], float]) -> bool:
    """Whether the candidate's minimum time is less than the plain one's; calls them in turns."""
    end = time.monotonic() + MAX_TRIAL_S
    candidate_s, plain_s = time_candidate(), time_plain()
    for done in range(1, MAX_ROUNDS):
        clear = candidate_s < EARLY_STOP_RATIO * plain_s
        if done >= MIN_ROUNDS and (clear or time.monotonic() > end):
            break
        candidate_s, plain_s = min(candidate_s, time_candidate()), min(plain_s, time_plain())
    return candidate_s < plain_s


def seconds(module: nn.Module, *inputs: Tensor | None) -> float:
    """Return the duration of one call in seconds."""
    start = time.perf_counter()
    module(*inputs)
    return time.perf_counter() - start
