"""Measures the first call and later calls of each implementation of attention.

cuDNN plans every new shape in the first call, which therefore takes much longer.
"""

import json
import sys
import time
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from bench.gpu_checks.options import Options, parsed
from bench.runtimes.execution import seconds, synchronize

BACKENDS = {
    "cuda": (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION),
    "cpu": (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH),
}
SHAPES = {  # heads, queries, keys, channels of a head
    "ViT-B/16": (12, 197, 197, 64),
    "ViT-L/16": (16, 197, 197, 64),
    "SegFormer-B0, stage 1": (1, 16384, 256, 32),
    "SegFormer-B5, stage 3": (5, 1024, 256, 64),
}
BATCHES = (1, 8, 32)
ROUND_S = 0.1


@torch.inference_mode()
def measured(
    shape: tuple[int, int, int, int], batch: int, backend: SDPBackend, device: str
) -> dict[str, float]:
    """Return the milliseconds of the first call and of a later call, in bfloat16."""
    heads, queries, keys, channels = shape

    def noise(length: int) -> Tensor:
        return torch.randn(batch, heads, length, channels, device=device, dtype=torch.bfloat16)

    inputs = (noise(queries), noise(keys), noise(keys))
    call = partial(scaled_dot_product_attention, *inputs)
    with sdpa_kernel([backend]):
        synchronize(device)
        began = time.perf_counter()
        call()
        synchronize(device)
        first = time.perf_counter() - began
        later = seconds(call, device, ROUND_S if device == "cuda" else 0.001)
    return {"first_ms": round(first * 1e3, 3), "later_ms": round(later * 1e3, 4)}


def result(name: str, batch: int, backend: SDPBackend, options: Options) -> dict[str, object]:
    """Return the figures of one implementation, or its error: some GPUs lack some of them."""
    row: dict[str, object] = {"network": name, "batch": batch, "backend": backend.name}
    try:
        return row | measured(SHAPES[name], batch, backend, options.device)
    except RuntimeError as error:
        return row | {"error": str(error).partition("\n")[0]}


def main(arguments: Sequence[str] = ()) -> None:
    """Print the figures of all shapes and implementations."""
    options = parsed("attention", arguments)
    batches, names = (BATCHES[:1], [*SHAPES][:1]) if options.quick else (BATCHES, [*SHAPES])
    rows = [
        result(name, batch, backend, options)
        for name in names
        for batch in batches
        for backend in BACKENDS[options.device]
    ]
    print(json.dumps({"attention": rows}))


if __name__ == "__main__":
    main(sys.argv[1:])
