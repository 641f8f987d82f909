"""Owns the measured peak of matrix products: what a network's time is held against.

Knows nothing of networks. Run as a program it prints, as JSON, TFLOP/s by dtype and by the way to
multiply, of those that torch has on the device.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor
from torch.nn.functional import linear

SIDE = {"cpu": 2048, "cuda": 8192}
CALLS = 40
Product = Callable[[Tensor, Tensor], Tensor]


def packed(x: Tensor, weight: Tensor) -> Tensor:
    """oneDNN's product with a weight that it has laid out for itself."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def ways(device: str, x: Tensor, weight: Tensor) -> dict[str, tuple[Product, Tensor]]:
    """The ways to multiply by (N, K) -> (N, M), each with the weight as it wants it."""
    known: dict[str, tuple[Product, Tensor]] = {"linear": (linear, weight)}
    if device == "cpu" and torch.backends.mkldnn.is_available():
        with suppress(RuntimeError):  # oneDNN has no product of this dtype for this processor
            laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
            known["oneDNN packed"] = (packed, laid_out)
    return known


def measure(device: str, dtype: torch.dtype) -> dict[str, float]:
    """TFLOP/s of each way, from the quickest of some calls: a peak is what can be reached."""
    side = SIDE[device]
    x = torch.randn(side, side, device=device, dtype=dtype)
    weight = torch.randn(side, side, device=device, dtype=dtype)
    found = {}
    for name, (product, laid_out) in ways(device, x, weight).items():
        product(x, laid_out)
        taken = [seconds(device, product, x, laid_out) for _ in range(CALLS)]
        found[name] = 2 * side**3 / min(taken) / 1e12
    return found


def seconds(device: str, product: Product, x: Tensor, weight: Tensor) -> float:
    """The seconds of one product."""
    began = time.perf_counter()
    product(x, weight)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measured(device: str) -> dict[str, dict[str, float]]:
    """TFLOP/s by dtype and way, from a process that does nothing else."""
    command = [sys.executable, "-m", "bench.runtimes.peak", device]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603  # ourselves
    rates: dict[str, dict[str, float]] = json.loads(found.stdout)
    return rates


@torch.inference_mode()
def main(device: str) -> None:
    """Print every way's figure for both dtypes."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    print(json.dumps({name: measure(device, dtype) for name, dtype in dtypes.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
