"""Selects the runtime of a network's inference form: torch, OpenVINO, or the faster of the two."""

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

Runtime = Literal["torch", "openvino", "auto"]
Form = Callable[[Tensor], Tensor]  # uint8 (B, H, W, 3) -> logits

ROUNDS = 7  # timed calls of each form
MIN_GAIN = 0.05  # part of torch's time that OpenVINO must save to be selected

logger = logging.getLogger(__name__)


class SelectedForm(NamedTuple):
    """An inference form, which has `classify` if the network is a classifier, and its runtime."""

    form: Form
    runtime: Literal["torch", "openvino"]


def inference_form(
    network: Network,
    *,
    runtime: Runtime,
    device: torch.device,
    dtype: torch.dtype,
    normalization: Preprocessing,
    size: Size,
) -> SelectedForm:
    """Build the network's inference form in a runtime.

    "auto" selects torch, unless OpenVINO is installed, supports the device, the dtype and the
    network, and is at least 5 % faster for one image of this size.

    Raises:
        ValueError: `runtime` is "openvino", and OpenVINO is not installed or does not support the
            device or the dtype.
    """
    possible = device.type == "cpu" and dtype != torch.float16 and available()
    if runtime == "openvino" and not possible:
        raise ValueError(
            "the runtime openvino needs a CPU, float32 or bfloat16, and the package openvino"
            " (make install EXTRAS=openvino)"
        )
    if runtime == "openvino":
        form = OpenVINOForm(network, dtype=dtype, normalization=normalization)
        return SelectedForm(form, "openvino")
    torch_form = optimize(network, device=device, dtype=dtype, normalization=normalization)
    if runtime == "torch" or not possible:
        return SelectedForm(torch_form, "torch")
    image = torch.zeros(1, *size, 3, dtype=torch.uint8)
    openvino_form = tried_openvino(network, dtype, normalization, image)
    if openvino_form is None or faster(torch_form, openvino_form, image) is torch_form:
        return SelectedForm(torch_form, "torch")
    return SelectedForm(openvino_form, "openvino")


def tried_openvino(
    network: Network, dtype: torch.dtype, normalization: Preprocessing, image: Tensor
) -> OpenVINOForm | None:
    """Return the network's OpenVINO form after one call; None, with a warning, if it fails."""
    try:
        form = OpenVINOForm(network, dtype=dtype, normalization=normalization)
        with torch.inference_mode():
            form(image)
    except Exception as error:  # noqa: BLE001  # any failure of OpenVINO: torch runs the network
        logger.warning("OpenVINO cannot run this network, so torch runs it: %s", error)
        return None
    return form


def faster(default: Form, other: Form, pixels: Tensor) -> Form:
    """Return `other` if its median time for these pixels is at least 5 % less, else `default`.

    Both are called twice to warm up, then in turns.
    """
    forms = (default, other)
    times: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for form in forms * 2:
            form(pixels)
        for _ in range(ROUNDS):
            for form, seconds in zip(forms, times, strict=True):
                seconds.append(seconds_of(form, pixels))
    default_s, other_s = (statistics.median(seconds) for seconds in times)
    return other if other_s < (1 - MIN_GAIN) * default_s else default


def seconds_of(form: Form, pixels: Tensor) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    form(pixels)
    return time.perf_counter() - start
