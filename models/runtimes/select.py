"""Which runtime a network's inference form runs in: torch, OpenVINO, or the quicker one here.

Knows nothing of checkpoints, nor of who runs the form.
"""

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from models.preprocessing import Preprocessing, Size
from models.registry import Network
from models.runtimes.openvino import OpenVINOForm, available, faster
from models.runtimes.optimize import optimize

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
