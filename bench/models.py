"""Compares the networks of this project, plain and step by step, with other ways to run them.

    python -m bench.models [--models NAME...] [--batches N...] [--contenders NAME...] [--no-steps]
                           [--device cpu|cuda] [--rounds N] [--seconds S] [--out FOLDER]

All contenders have the same random weights and inputs. Each one is a process with one thread per
core and without environment variables that tune; they are measured in interleaved rounds. All of
it takes about an hour on two cores; `--no-steps` and `--contenders` shorten it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from app.core.malloc import MAX_HEAP_BLOCK, NEVER_TRIM
from bench.common import checkpoints, machine
from bench.runtimes import peak, report
from bench.runtimes.contenders import CONTENDERS, SERVED, UNTIL, contender
from bench.runtimes.prepare import prepare
from bench.runtimes.race import Limits, race
from bench.runtimes.report import BASE, BASE_INSTALLED, Comparison, Reference
from models.runtimes.optimize import FOLDINGS, steps

RESULTS = Path(__file__).parent / "results" / "models.md"
CASES = {  # the batch sizes of each network
    "ViT-Ti/16": (1, 8),
    "ViT-B/16": (1, 8),
    "SegFormer-B0": (1, 4),
    "SegFormer-B2": (1, 4),
    "SegFormer-B5": (1,),
}
LIMITED = ("SegFormer-B5", (BASE, "ours, plain", "ours"))  # it is slow, so it has few contenders
OURS_SERVED = "ours" + SERVED
ALLOCATOR = {  # the settings of app.core.malloc as variables of the C library
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(MAX_HEAP_BLOCK),
    "MALLOC_TRIM_THRESHOLD_": str(NEVER_TRIM),
}
SERVING = ALLOCATOR | {"GOMP_SPINCOUNT": "10000"}

Peaks = dict[str, dict[str, float]]  # TFLOP/s by dtype and implementation


class Options(NamedTuple):
    """The options of the command line."""

    models: Sequence[str]
    batches: Sequence[int]
    contenders: Sequence[str]
    steps: bool
    device: str
    limits: Limits
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """Parse the command line; by default everything is measured."""
    parser = argparse.ArgumentParser(prog="bench.models")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--contenders", nargs="+", default=[])
    parser.add_argument("--no-steps", action="store_true")
    parser.add_argument("--device", choices=CONTENDERS, default="cpu")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = parser.parse_args(arguments)
    limits = Limits(given.rounds, given.seconds)
    known = CONTENDERS[given.device]
    names = [name for name in known if not given.contenders or name in given.contenders]
    reference = next(iter(known))  # other logits are compared with its logits
    names = list(dict.fromkeys([reference, BASE, *names]))
    models = [name for name in given.models if {*CASES[name]} & {*given.batches}]
    return Options(
        models, given.batches, names, not given.no_steps, given.device, limits, given.out
    )


def step_names(name: str, device: str) -> list[str]:
    """Return the optimization up to each step that changes this network, without the last step.

    The last one is the contender "ours".
    """
    form: torch.nn.Module = checkpoints.network(name).eval()
    normalization = checkpoints.preprocessing(name)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    names = []
    for step in steps(device=device, dtype=dtype, normalization=normalization):
        before, form = form, step.apply(form)
        if repr(form) != repr(before):
            names.append(UNTIL + step.name)
    return names[:-1]


def measure(name: str, options: Options, folder: Path) -> list[Comparison]:
    """Run the races on one network.

    As installed, only the smallest batch is measured, to save time, except for transformers. With
    the allocator settings every batch size is measured, and the smallest one also after each
    optimization step.
    """
    batches = [b for b in CASES[name] if b in options.batches]
    names = [one for one in options.contenders if name != LIMITED[0] or one in LIMITED[1]]
    formats = {contender(options.device, one).needs for one in names} - {""}
    prepare(name, batches, formats, folder)
    untuned = {one: {} for one in names}
    if options.device == "cuda":  # torch has its own allocator there
        results = race(untuned, folder, dict.fromkeys(batches, names), "cuda", options.limits)
        return [Comparison(name, batch, results[batch], {}) for batch in batches]
    installed = race(untuned, folder, {batches[0]: names}, "cpu", options.limits)
    every_step = options.steps and name != LIMITED[0]
    step_forms = step_names(name, options.device) if every_step else []
    contenders = dict.fromkeys([*names, *step_forms], ALLOCATOR) | {BASE_INSTALLED: {}}
    if "ours" in names:
        contenders[OURS_SERVED] = SERVING
    others = [one for one in contenders if one not in step_forms]
    by_batch = dict.fromkeys(batches, others) | {batches[0]: list(contenders)}
    tuned = race(contenders, folder, by_batch, "cpu", options.limits)
    for batch in batches[1:]:
        installed[batch] = {BASE: tuned[batch][BASE_INSTALLED]}
    return [Comparison(name, batch, installed[batch], tuned[batch]) for batch in batches]


def executed(name: str, one: str) -> int:
    """Return the FLOPs of an image in a contender: fewer than published in our folded networks."""
    if one == "ours, plain" or not one.startswith("ours"):
        return checkpoints.flops(name)
    names = [folding.__name__ for folding in FOLDINGS]
    until = one.removeprefix(UNTIL)
    done = names.index(until) + 1 if until in names else len(names)
    return checkpoints.flops(name, FOLDINGS[:done])


def reference_of(
    name: str, comparisons: Sequence[Comparison], device: str, peaks: Peaks
) -> Reference:
    """Return the operations and peak rates that the figures of a network are divided by."""
    names = {
        one for comparison in comparisons for one in {**comparison.installed, **comparison.tuned}
    }
    return Reference(
        checkpoints.flops(name),
        {one: executed(name, one) for one in names},
        {one: max(peaks[contender(device, one).dtype].values()) * 1e12 for one in names},
    )


def heading(options: Options, peaks: Peaks) -> list[str]:
    """Return the introduction: the machine, and what the tables mean."""
    where = machine.cpu() if options.device == "cpu" else torch.cuda.get_device_name()
    best = {dtype: max(rates.values()) for dtype, rates in peaks.items()}
    default = best["float32"] / peaks["float32"]["linear"]
    return [
        "# Ways to run the networks",
        "",
        f"{where}; matrix products reach {best['float32']:.3f} TFLOP/s in float32 "
        f"({default:.2f} times the rate of torch's default product) and "
        f"{best['bfloat16']:.3f} in bfloat16, measured in the same run. Medians of at least "
        f"{options.limits.rounds} interleaved rounds; each contender is a process of its own. In "
        "brackets the quartiles and the minimum. `ours` is the inference form of this project; "
        "`ours, until STEP` is the optimization up to this step; `ours, as served` has the "
        "environment variables of the service. Ratios are images/s as a multiple of transformers; "
        "`allocator set` means with the allocator settings of the service.",
        "",
    ]


def publish(results: Sequence[list[Comparison]], peaks: Peaks, options: Options) -> None:
    """Print the table of the last network; write all tables and the plot."""
    tables = [
        report.table(
            comparisons, reference_of(comparisons[0].network, comparisons, options.device, peaks)
        )
        for comparisons in results
    ]
    print("\n".join([*heading(options, peaks), *tables[-1]]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = sum(tables, heading(options, peaks))
    (options.out / RESULTS.name).write_text("\n".join(lines))
    if find_spec("matplotlib"):  # optional on a machine with a GPU
        picture = options.out / RESULTS.with_suffix(".png").name
        report.draw([comparison for comparisons in results for comparison in comparisons], picture)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure one network after the other."""
    options = parsed(arguments)
    results: list[list[Comparison]] = []
    peaks: Peaks = {}
    for name in options.models:
        for dtype, rates in peak.measured(options.device).items():
            known = peaks.setdefault(dtype, {})
            known |= {one: max(rate, known.get(one, 0.0)) for one, rate in rates.items()}
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(name, options, Path(folder)))
        publish(results, peaks, options)


if __name__ == "__main__":
    main(sys.argv[1:])
