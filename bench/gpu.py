"""Measures the networks on a GPU: their rate, what the pipeline keeps of it, and the label map.

    python -m bench.gpu [--models NAME...] [--batches N...] [--ways NAME...] [--seconds S]
                        [--device cuda|cpu] [--out FOLDER]

Needs torch, numpy, Pillow, safetensors and huggingface_hub, and no part of the web framework.
Weights and images are random. Without `torch.compile` among the ways it takes two minutes. On a
CPU it shows that it works, and nothing else: there is nothing to record or to compile for.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench.common import checkpoints, machine
from bench.runtimes import peak
from bench.runtimes.execution import OPEN, ROUNDS, WAYS, seconds, staged
from models.label_map import label_map
from models.runtimes.optimize import FOLDINGS, optimize
from models.runtimes.optimize.form import Form, form_of

RESULTS = Path(__file__).parent / "results" / "gpu.md"
MODELS = ("ViT-B/16", "ViT-L/16", "SegFormer-B0", "SegFormer-B5")
BATCHES = (1, 8, 32, 128)
SIZES = {"cuda": ((480, 640), (1500, 2000), (3000, 4000)), "cpu": ((48, 64),)}  # of photographs
GRID = (150, 128, 128)  # logits of a SegFormer for ADE20K


class Options(NamedTuple):
    """What the command line asks for."""

    models: Sequence[str]
    batches: Sequence[int]
    ways: Sequence[str]
    seconds: float
    device: str
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """The options of a command line."""
    parser = argparse.ArgumentParser(prog="bench.gpu")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = parser.parse_args(arguments)
    ways = given.ways if given.device == "cuda" else ["eager"]
    return Options(given.models, given.batches, ways, given.seconds, given.device, given.out)


def network(name: str, device: str) -> Form:
    """The inference form of a network with random weights, in bfloat16."""
    form = optimize(
        checkpoints.randomized(name).eval(),
        device=device,
        dtype=torch.bfloat16,
        normalization=checkpoints.preprocessing(name),
    )
    return form_of(form)


def rate(name: str, form: Form, batch: int, way: str, options: Options) -> float:
    """The images per second of one way at one batch size; 0 where it cannot."""
    images = checkpoints.images(name, batch)[0].to(options.device)
    try:
        with torch.inference_mode():
            call = WAYS[way](form, images)
        return batch / seconds(call, options.device, options.seconds)
    except Exception as error:  # noqa: BLE001  # the others go on, and the table shows it
        print(f"{name}, batch {batch}, {way}: {type(error).__name__}: {error}", file=sys.stderr)
        return 0.0


def rates(name: str, options: Options) -> dict[int, dict[str, float]]:
    """By batch size every way's rate; of those that compile at the best size of the others."""
    form = network(name, options.device)
    compiling = [way for way in options.ways if "compile" in way]
    others = [way for way in options.ways if way not in compiling]
    found = {
        batch: {way: rate(name, form, batch, way, options) for way in others}
        for batch in options.batches
    }
    best = max(found, key=lambda batch: max(found[batch].values(), default=0.0))
    found[best] |= {way: rate(name, form, best, way, options) for way in compiling}
    return found


def network_lines(name: str, options: Options) -> list[str]:
    """A line for each batch size: the rate of each way, and what the best comes to."""
    product = max(peak.measure(options.device, torch.bfloat16).values())
    teraflop = checkpoints.flops(name, FOLDINGS) / 1e12
    lines = []
    for batch, found in rates(name, options).items():
        done = max(found.values()) * teraflop
        cells = [f"{found[way]:.0f}" if found.get(way) else "–" for way in options.ways]
        cells += [f"{done:.1f}", f"{product:.1f}", f"{done / product:.2f}"]
        lines.append(row(name, batch, *cells))
    return lines


def pipeline_lines(name: str, options: Options) -> list[str]:
    """A line for each batch size: what is kept of the forward pass's rate."""
    form, device = network(name, options.device), options.device
    way = "graphs" if device == "cuda" else "eager"
    lines = []
    for batch in options.batches:
        raw = rate(name, form, batch, way, options)
        images = list(checkpoints.images(name, batch)[0].numpy())
        alone, overlapped = (
            batch / seconds(staged(form, images, device, at_once), device, options.seconds)
            for at_once in (1, OPEN)
        )
        share = overlapped / raw if raw else 0.0
        figures = (f"{figure:.0f}" for figure in (raw, alone, overlapped))
        lines.append(row(name, batch, *figures, f"{share:.2f}"))
    return lines


def label_map_lines(options: Options) -> list[str]:
    """A line for each kind of logits and size: the milliseconds of both label maps."""
    noise = torch.randn(GRID)
    smooth = interpolate(noise[None, :, :16, :16], GRID[1:], mode="bicubic")[0]
    lines = []
    for kind, logits in (("regions", smooth), ("white noise", noise)):
        laid = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # as the network has them
        laid = laid.to(options.device, torch.bfloat16)
        for size in SIZES[options.device]:
            taken = [
                seconds(partial(way, laid, size), options.device, options.seconds)
                for way in label_maps(options.device)
            ]
            figures = (f"{1e3 * one:.3f}" for one in taken)
            lines.append(row(kind, f"{size[0]} × {size[1]}", *figures))
    return lines


def label_maps(device: str) -> list[Callable[[Tensor, tuple[int, int]], Tensor]]:
    """The way in tensors and, on a GPU with Triton, the kernel."""
    if device == "cpu" or find_spec("triton") is None:
        return [label_map]
    return [label_map, import_module("models.label_map_triton").fused_label_map]


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(heading: Sequence[str], lines: Sequence[str]) -> list[str]:
    """A table, and an empty line behind it."""
    return [row(*heading), row(*("---" for _ in heading)), *lines, ""]


def report(options: Options) -> list[str]:
    """All tables, and what they were measured on."""
    where = torch.cuda.get_device_name() if options.device == "cuda" else machine.cpu()
    ways = [f"{way}, images/s" for way in options.ways]
    heads = ("TFLOP/s of the best", "of a matrix product", "share")
    served = [name for name in options.models if name.startswith("ViT")][:1]
    networks = [line for name in options.models for line in network_lines(name, options)]
    pipelines = [line for name in served for line in pipeline_lines(name, options)]
    kept = ("forward only, images/s", "one batch at a time", "staged", "share")
    maps = ["in tensors, ms", "kernel, ms"][: len(label_maps(options.device))]
    return [
        "# The networks on a GPU",
        "",
        f"{where}, torch {torch.__version__}, bfloat16. Medians of {ROUNDS} rounds; the operations"
        " are those that the folded network executes.",
        "",
        *table(("network", "batch", *ways, *heads), networks),
        *table(("network", "batch", *kept), pipelines),
        *table(("logits 150 × 128 × 128", "photograph", *maps), label_map_lines(options)),
    ]


def main(arguments: Sequence[str] = ()) -> None:
    """Measure everything, print the tables and keep them."""
    options = parsed(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("bench.gpu: there is no CUDA device here")
        return
    lines = report(options)
    print("\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / RESULTS.name).write_text("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
