"""Measures the networks on a GPU: the forward pass, the pipeline, and the label map.

    python -m bench.gpu [--models NAME...] [--batches N...] [--ways NAME...] [--tables NAME...]
                        [--seconds S] [--device cuda|cpu] [--out FOLDER]

It needs torch, numpy, Pillow, safetensors and huggingface_hub, but no web framework. Weights and
images are random. Without `torch.compile` in --ways it takes two minutes. On a CPU it only shows
that the program works.
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
from bench.runtimes.execution import (
    EXECUTIONS,
    OPEN_BATCHES,
    ROUNDS,
    seconds,
    staged,
    use_attention_of_service,
)
from models.label_map import label_map
from models.runtimes.optimize import FOLDINGS, optimize
from models.runtimes.optimize.form import Form, form_of

RESULTS = Path(__file__).parent / "results" / "gpu.md"
MODELS = ("ViT-B/16", "ViT-L/16", "SegFormer-B0", "SegFormer-B5")
BATCHES = (1, 8, 32, 128)
SIZES = {"cuda": ((480, 640), (1500, 2000), (3000, 4000)), "cpu": ((48, 64),)}  # outputs
TABLES = ("networks", "pipeline", "label_map")
GRID = (150, 128, 128)  # shape of the logits of a SegFormer for ADE20K


class Options(NamedTuple):
    """The options of the command line."""

    models: Sequence[str]
    batches: Sequence[int]
    executions: Sequence[str]
    tables: Sequence[str]
    seconds: float
    device: str
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="bench.gpu")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--ways", nargs="+", choices=EXECUTIONS, default=list(EXECUTIONS))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = parser.parse_args(arguments)
    executions = given.ways if given.device == "cuda" else ["eager"]
    return Options(
        given.models,
        given.batches,
        executions,
        given.tables,
        given.seconds,
        given.device,
        given.out,
    )


def network(name: str, device: str) -> Form:
    """Return the inference form of a network with random weights, in bfloat16."""
    form = optimize(
        checkpoints.randomized(name).eval(),
        device=device,
        dtype=torch.bfloat16,
        normalization=checkpoints.preprocessing(name),
    )
    return form_of(form)


def rate(name: str, form: Form, batch: int, execution: str, options: Options) -> float:
    """Return the images per second of an execution at one batch size; 0 if it fails."""
    images = checkpoints.images(name, batch)[0].to(options.device)
    try:
        with torch.inference_mode():
            call = EXECUTIONS[execution](form, images)
        return batch / seconds(call, options.device, options.seconds)
    except Exception as error:  # noqa: BLE001  # the table shows a dash, and the others are measured
        text = f"{type(error).__name__}: {error}"
        print(f"{name}, batch {batch}, {execution}: {text}", file=sys.stderr)
        return 0.0


def rates(name: str, options: Options) -> dict[int, dict[str, float]]:
    """Return the rate of each execution by batch size; compiled ones only at the best size."""
    form = network(name, options.device)
    compiled = [execution for execution in options.executions if "compile" in execution]
    others = [execution for execution in options.executions if execution not in compiled]
    by_batch = {
        batch: {one: rate(name, form, batch, one, options) for one in others}
        for batch in options.batches
    }
    best = max(by_batch, key=lambda batch: max(by_batch[batch].values(), default=0.0))
    by_batch[best] |= {one: rate(name, form, best, one, options) for one in compiled}
    return by_batch


def network_lines(name: str, options: Options) -> list[str]:
    """Return a line for each batch size: the rates, and the TFLOP/s of the best one."""
    product = max(peak.measure(options.device, torch.bfloat16).values())
    teraflop = checkpoints.flops(name, FOLDINGS) / 1e12
    lines = []
    for batch, by_execution in rates(name, options).items():
        done = max(by_execution.values()) * teraflop
        cells = [
            f"{by_execution[x]:.1f}" if by_execution.get(x) else "–" for x in options.executions
        ]
        cells += [f"{done:.1f}", f"{product:.1f}", f"{done / product:.2f}"]
        lines.append(row(name, batch, *cells))
    return lines


def pipeline_lines(name: str, options: Options) -> list[str]:
    """Return a line for each batch size: the pipeline's rate against the forward pass alone."""
    form, device = network(name, options.device), options.device
    execution = "graphs" if device == "cuda" else "eager"
    lines = []
    for batch in options.batches:
        forward = rate(name, form, batch, execution, options)
        images = list(checkpoints.images(name, batch)[0].numpy())
        single, overlapped = (
            batch / seconds(staged(form, images, device, in_flight), device, options.seconds)
            for in_flight in (1, OPEN_BATCHES)
        )
        ratio = overlapped / forward if forward else 0.0
        figures = (f"{figure:.1f}" for figure in (forward, single, overlapped))
        lines.append(row(name, batch, *figures, f"{ratio:.2f}"))
    return lines


def label_map_lines(options: Options) -> list[str]:
    """Return a line for each kind of logits and size: the milliseconds of both label maps."""
    noise = torch.randn(GRID)
    smooth = interpolate(noise[None, :, :16, :16], GRID[1:], mode="bicubic")[0]
    lines = []
    for kind, logits in (("regions", smooth), ("white noise", noise)):
        channels_last = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # as in the network
        channels_last = channels_last.to(options.device, torch.bfloat16)
        for size in SIZES[options.device]:
            taken = [
                seconds(partial(function, channels_last, size), options.device, options.seconds)
                for function in label_maps(options.device)
            ]
            figures = (f"{1e3 * one:.3f}" for one in taken)
            lines.append(row(kind, f"{size[0]} × {size[1]}", *figures))
    return lines


def label_maps(device: str) -> list[Callable[[Tensor, tuple[int, int]], Tensor]]:
    """Return the label map in tensor operations and, on a GPU with Triton, the kernel."""
    if device == "cpu" or find_spec("triton") is None:
        return [label_map]
    return [label_map, import_module("models.label_map_triton").fused_label_map]


def row(*cells: object) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(heading: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return a table with an empty line after it."""
    return [row(*heading), row(*("---" for _ in heading)), *lines, ""]


def report(options: Options) -> list[str]:
    """Return the introduction and all tables."""
    where = torch.cuda.get_device_name() if options.device == "cuda" else machine.cpu()
    tables = {
        "networks": networks_table,
        "pipeline": pipeline_table,
        "label_map": label_map_table,
    }
    return [
        "# The networks on a GPU",
        "",
        f"{where}, torch {torch.__version__}, bfloat16. Medians of {ROUNDS} rounds; TFLOP/s count "
        "the operations that the folded network executes.",
        "",
        *(line for name in TABLES if name in options.tables for line in tables[name](options)),
    ]


def networks_table(options: Options) -> list[str]:
    """Return the table of the forward pass."""
    executions = [f"{execution}, images/s" for execution in options.executions]
    heads = ("TFLOP/s of the best", "TFLOP/s of a matrix product", "ratio")
    lines = [line for name in options.models for line in network_lines(name, options)]
    return table(("network", "batch", *executions, *heads), lines)


def pipeline_table(options: Options) -> list[str]:
    """Return the table of the pipeline, for the first ViT."""
    served = [name for name in options.models if name.startswith("ViT")][:1]
    heads = ("forward pass, images/s", "one batch at a time", "staged", "staged / forward pass")
    lines = [line for name in served for line in pipeline_lines(name, options)]
    return table(("network", "batch", *heads), lines)


def label_map_table(options: Options) -> list[str]:
    """Return the table of the label maps."""
    maps = ["tensor operations, ms", "kernel, ms"][: len(label_maps(options.device))]
    return table(("logits 150 × 128 × 128", "output", *maps), label_map_lines(options))


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables and write them."""
    options = parsed(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("bench.gpu: this machine has no CUDA device")
        return
    use_attention_of_service(options.device)
    lines = report(options)
    print("\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / RESULTS.name).write_text("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
