"""Measures our networks, plain and step by step, against the other ways to run them.

    python -m bench.models [--models NAME...] [--batches N...] [--contenders NAME...] [--no-steps]
                           [--device cpu|cuda] [--rounds N] [--seconds S] [--out FOLDER]

Weights are random, but the same for everyone, and so are the inputs. Each contender is a process
of its own with as many threads as there are cores and no variable set that tunes; they take turns.
All of it takes about an hour on two cores; `--no-steps` and `--contenders` shorten it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from app.core.malloc import LARGEST, LARGEST_BLOCK
from bench.common import checkpoints, machine
from bench.runtimes import peak, report
from bench.runtimes.contenders import CONTENDERS, SERVED, UNTIL, contender
from bench.runtimes.prepare import prepare
from bench.runtimes.race import Limits, race
from bench.runtimes.report import BASE, REFERENCE, Standing, Yardstick
from models.runtimes.optimize import FOLDINGS, steps

RESULTS = Path(__file__).parent / "results" / "models.md"
CASES = {  # the batch sizes of each network
    "ViT-Ti/16": (1, 8),
    "ViT-B/16": (1, 8),
    "SegFormer-B0": (1, 4),
    "SegFormer-B2": (1, 4),
    "SegFormer-B5": (1,),
}
FEW = ("SegFormer-B5", (BASE, "ours, plain", "ours"))  # it takes seconds: few contenders
OURS_SERVED = "ours" + SERVED
ALLOCATOR = {  # what app.core.malloc asks of the C library, as anyone can with variables
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(LARGEST_BLOCK),
    "MALLOC_TRIM_THRESHOLD_": str(LARGEST),
}
SERVING = ALLOCATOR | {"GOMP_SPINCOUNT": "10000"}

Peaks = dict[str, dict[str, float]]  # TFLOP/s by dtype and way to multiply


class Options(NamedTuple):
    """What the command line asks for."""

    models: Sequence[str]
    batches: Sequence[int]
    contenders: Sequence[str]
    steps: bool
    device: str
    limits: Limits
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """The options of a command line; everything, unless it says otherwise."""
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
    reference = next(iter(known))  # what the others' logits are compared with
    names = list(dict.fromkeys([reference, BASE, *names]))
    models = [name for name in given.models if {*CASES[name]} & {*given.batches}]
    return Options(
        models, given.batches, names, not given.no_steps, given.device, limits, given.out
    )


def step_names(name: str, device: str) -> list[str]:
    """Our optimization up to each step that changes this network, but the last: that is "ours"."""
    form: torch.nn.Module = checkpoints.network(name).eval()
    normalization = checkpoints.preprocessing(name)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    found = []
    for step in steps(device=device, dtype=dtype, normalization=normalization):
        before, form = form, step.apply(form)
        if repr(form) != repr(before):
            found.append(UNTIL + step.name)
    return found[:-1]


def measure(name: str, options: Options, folder: Path) -> list[Standing]:
    """The races on one network. As installed the smallest batch only, to save time, except for
    transformers; with our allocator settings every batch, and the smallest with every step.
    """
    batches = [b for b in CASES[name] if b in options.batches]
    names = [one for one in options.contenders if name != FEW[0] or one in FEW[1]]
    formats = {contender(options.device, one).needs for one in names} - {""}
    prepare(name, batches, formats, folder)
    untuned = {one: {} for one in names}
    if options.device == "cuda":  # where another allocator is at work
        found = race(untuned, folder, dict.fromkeys(batches, names), "cuda", options.limits)
        return [Standing(name, batch, found[batch], {}) for batch in batches]
    installed = race(untuned, folder, {batches[0]: names}, "cpu", options.limits)
    whole = options.steps and name != FEW[0]
    some = step_names(name, options.device) if whole else []
    entries = dict.fromkeys([*names, *some], ALLOCATOR) | {REFERENCE: {}}
    if "ours" in names:
        entries[OURS_SERVED] = SERVING
    others = [one for one in entries if one not in some]
    who = dict.fromkeys(batches, others) | {batches[0]: list(entries)}
    tuned = race(entries, folder, who, "cpu", options.limits)
    for batch in batches[1:]:
        installed[batch] = {BASE: tuned[batch][REFERENCE]}
    return [Standing(name, batch, installed[batch], tuned[batch]) for batch in batches]


def executed(name: str, one: str) -> int:
    """The FLOPs of an image in a contender: as published, but in those of ours that are folded."""
    if one == "ours, plain" or not one.startswith("ours"):
        return checkpoints.flops(name)
    names = [folding.__name__ for folding in FOLDINGS]
    until = one.removeprefix(UNTIL)
    done = names.index(until) + 1 if until in names else len(names)
    return checkpoints.flops(name, FOLDINGS[:done])


def yardstick(name: str, these: Sequence[Standing], device: str, peaks: Peaks) -> Yardstick:
    """What the figures of a network are held against."""
    names = {one for standing in these for one in {**standing.installed, **standing.tuned}}
    return Yardstick(
        checkpoints.flops(name),
        {one: executed(name, one) for one in names},
        {one: max(peaks[contender(device, one).dtype].values()) * 1e12 for one in names},
    )


def heading(options: Options, peaks: Peaks) -> list[str]:
    """What the tables mean, and the machine."""
    where = machine.cpu() if options.device == "cpu" else torch.cuda.get_device_name()
    best = {dtype: max(rates.values()) for dtype, rates in peaks.items()}
    default = best["float32"] / peaks["float32"]["linear"]
    return [
        "# Ways to run the networks",
        "",
        f"{where}; matrix products at most {best['float32']:.3f} TFLOP/s in float32 "
        f"({default:.2f} times the rate of torch's default way) and "
        f"{best['bfloat16']:.3f} in bfloat16, measured in the same run. Medians of at least "
        f"{options.limits.rounds} rounds, in which the contenders take turns, each a process of "
        "its own. In brackets the quartiles and the least.",
        "",
    ]


def publish(found: Sequence[list[Standing]], peaks: Peaks, options: Options) -> None:
    """Keep what is known so far; print it of the last network."""
    tables = [
        report.table(these, yardstick(these[0].network, these, options.device, peaks))
        for these in found
    ]
    print("\n".join([*heading(options, peaks), *tables[-1]]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = sum(tables, heading(options, peaks))
    (options.out / RESULTS.name).write_text("\n".join(lines))
    if find_spec("matplotlib"):  # a machine lent for a while may be without
        picture = options.out / RESULTS.with_suffix(".png").name
        report.draw([standing for these in found for standing in these], picture)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure one network after the other, print the tables and keep them, with a picture."""
    options = parsed(arguments)
    found: list[list[Standing]] = []
    peaks: Peaks = {}
    for name in options.models:
        for dtype, rates in peak.measured(options.device).items():
            known = peaks.setdefault(dtype, {})
            known |= {way: max(rate, known.get(way, 0.0)) for way, rate in rates.items()}
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(name, options, Path(folder)))
        publish(found, peaks, options)


if __name__ == "__main__":
    main(sys.argv[1:])
