"""The measured peak rate of matrix products, in TFLOP/s by dtype and implementation."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor
from torch.nn.functional import linear

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
CALLS = 40
BUDGET_S = 5.0  # for these calls; a slow product has fewer
Product = Callable[[Tensor, Tensor], Tensor]


def packed(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply by a weight in oneDNN's own layout."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def products(device: str, x: Tensor, weight: Tensor) -> dict[str, tuple[Product, Tensor]]:
    """Return the implementations of (N, K) -> (N, M), each with the weight in its layout."""
    by_name: dict[str, tuple[Product, Tensor]] = {"linear": (linear, weight)}
    if device == "cpu" and torch.backends.mkldnn.is_available():
        with suppress(RuntimeError):  # oneDNN has no product of this dtype for this CPU
            laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
            by_name["oneDNN packed"] = (packed, laid_out)
    return by_name


def measure(device: str, dtype: torch.dtype) -> dict[str, float]:
    """Return TFLOP/s of each implementation, from its fastest call."""
    side = SIDE[device]
    x = torch.randn(side, side, device=device, dtype=dtype)
    weight = torch.randn(side, side, device=device, dtype=dtype)
    rates = {}
    for name, (product, laid_out) in products(device, x, weight).items():
        product(x, laid_out)
        taken: list[float] = []
        while not taken or (len(taken) < CALLS and sum(taken) < BUDGET_S):
            taken.append(seconds(device, product, x, laid_out))
        rates[name] = 2 * side**3 / min(taken) / 1e12
    return rates


def seconds(device: str, product: Product, x: Tensor, weight: Tensor) -> float:
    """Return the seconds of one product."""
    began = time.perf_counter()
    product(x, weight)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measured(device: str) -> dict[str, dict[str, float]]:
    """Return TFLOP/s by dtype and implementation, measured in a process of its own."""
    command = [sys.executable, "-m", "bench.runtimes.peak", device]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603  # this module
    rates: dict[str, dict[str, float]] = json.loads(process.stdout)
    return rates


@torch.inference_mode()
def main(device: str) -> None:
    """Print the rates for both dtypes as JSON."""
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    print(json.dumps({name: measure(device, dtype) for name, dtype in dtypes.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
