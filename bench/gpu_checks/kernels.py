"""Prints the ten kernels that take most time of the forward pass of some networks."""

import json
import sys
from collections.abc import Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from bench.common import checkpoints
from bench.gpu import network
from bench.gpu_checks.options import parsed
from bench.runtimes.execution import synchronize, use_attention_of_service

NETWORKS = ("ViT-B/16", "SegFormer-B0", "SegFormer-B5")
BATCH, RUNS, TOP = 32, 5, 10
NAME_LENGTH = 90  # names of kernels have hundreds of characters


@torch.inference_mode()
def shares(name: str, batch: int, device: str) -> list[dict[str, object]]:
    """Return the names, shares and milliseconds for a batch of the kernels; operators on a CPU."""
    form = network(name, device)
    images = checkpoints.images(name, batch)[0].to(device)
    cuda = device == "cuda"
    form(images)
    synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiled:
        for _ in range(RUNS):
            form(images)
        synchronize(device)
    taken = {
        event.key: event.self_device_time_total if cuda else event.self_cpu_time_total
        for event in profiled.key_averages()
    }
    total = sum(taken.values())
    longest = sorted(taken.items(), key=lambda item: item[1], reverse=True)[:TOP]
    return [
        {"kernel": key[:NAME_LENGTH], "share": round(us / total, 3), "ms": us / RUNS / 1e3}
        for key, us in longest
    ]


def main(arguments: Sequence[str] = ()) -> None:
    """Print the kernels of all networks."""
    options = parsed("kernels", arguments)
    names, batch = (("ViT-Ti/16",), 1) if options.quick else (NETWORKS, BATCH)
    use_attention_of_service(options.device)
    print(json.dumps({name: shares(name, batch, options.device) for name in names}))


if __name__ == "__main__":
    main(sys.argv[1:])
