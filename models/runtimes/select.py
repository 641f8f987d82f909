"""Which runtime a network's inference form runs in: torch, OpenVINO, or the quicker one here.

Knows nothing of checkpoints, nor of who runs the form.
"""

import logging
import statistics
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from models.preprocessing import Preprocessing, Size
from models.registry import Network
from models.runtimes.openvino import OpenVINOForm, available
from models.runtimes.optimize import optimize

ROUNDS = 7
Form = Callable[[Tensor], Tensor]


def faster(usual: Form, other: Form, pixels: Tensor) -> Form:
    """The form that takes less time for these pixels; the other must win by a twentieth.

    Both run twice to set themselves up, then in turn. What a batch of one takes is what counts:
    give it one.
    """
    forms = (usual, other)
    taken: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for form in forms * 2:
            form(pixels)
        for _ in range(ROUNDS):
            for form, seconds in zip(forms, taken, strict=True):
                seconds.append(seconds_of(form, pixels))
    first, second = (statistics.median(seconds) for seconds in taken)
    return other if second < 0.95 * first else usual


def seconds_of(form: Form, pixels: Tensor) -> float:
    """The seconds of one call."""
    began = time.perf_counter()
    form(pixels)
    return time.perf_counter() - began


logger = logging.getLogger(__name__)

Runtime = Literal["torch", "openvino", "auto"]


class Placed(NamedTuple):
    """A form, uint8 (B, H, W, 3) -> logits, `classify` on a classifier's, and where it runs."""

    form: Callable[[Tensor], Tensor]
    runtime: Literal["torch", "openvino"]


def inference_form(
    network: Network,
    *,
    runtime: Runtime,
    device: torch.device,
    dtype: torch.dtype,
    normalization: Preprocessing,
    size: Size,
) -> Placed:
    """The network's inference form in a runtime.

    "auto" is torch, unless OpenVINO is installed, computes in this dtype, can run this network, and
    takes less time for one image of this size on the CPU. ValueError when OpenVINO is asked for and
    cannot do it.
    """
    possible = device.type == "cpu" and dtype != torch.float16 and available()
    if runtime == "openvino" and not possible:
        raise ValueError(
            "the runtime openvino needs a CPU, float32 or bfloat16, and"
            ' pip install "patchserve[openvino]"'
        )
    if runtime == "openvino":
        return Placed(OpenVINOForm(network, dtype=dtype, normalization=normalization), "openvino")
    ours = optimize(network, device=device, dtype=dtype, normalization=normalization)
    if runtime == "torch" or not possible:
        return Placed(ours, "torch")
    theirs = OpenVINOForm(network, dtype=dtype, normalization=normalization)
    image = torch.zeros(1, *size, 3, dtype=torch.uint8)
    try:
        quicker = faster(ours, theirs, image)
    except Exception as error:  # noqa: BLE001  # whatever keeps it from converting, torch serves
        logger.warning("OpenVINO cannot run this network, torch does: %s", error)
        return Placed(ours, "torch")
    return Placed(theirs, "openvino") if quicker is theirs else Placed(ours, "torch")
