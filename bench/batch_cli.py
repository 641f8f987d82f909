"""Compares `patchserve classify` on 1,000 files with a bare loop on the same files.

    python -m bench.batch_cli [--networks NAME...] [--images N] [--rounds N] [--no-repeat]

The bare loop is that of bench.serve, with one process and with one for each core, each with the
best of the batch sizes 1, 2, 4, 8 and that of the command. In each round the command answers all
files once, and both loops run for as long as the command needed, at most 20 s. The one with the
higher median is the bare loop.

The rate of the command counts from its first answers, a batch of each process, to its last one;
the first answers do not count. The rate from the loaded model on, which is that of its
summary, and the start-up, from the start of the process to the loaded model, are columns of their
own. A measurement is repeated if other processes use the machine, unless --no-repeat is given. It
takes about 20 minutes on two cores, most of it for ViT-B/16.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from app.cli.predict import CLASSIFY_BATCH
from bench.common import checkpoints, machine
from bench.common.cpu import UsageDelta, usage, usage_between
from bench.common.idle import once, undisturbed
from bench.common.ratios import paired_ratio
from bench.serving import photographs
from bench.serving.baseline import BATCHES, CORES, BareLoop, LoopConfig, bare_loop, loop_configs
from bench.serving.servers import untuned
from models import checkpoint

RESULTS = Path(__file__).parent / "results" / "batch_cli.md"
BUNDLED = "bundled"
ROUNDS = {BUNDLED: 20, "ViT-B/16": 3}  # a round of ViT-B/16 takes minutes
SUMMARY = re.compile(r"([\d,]+) images in ([\d.]+) s \(.*\), start-up ([\d.]+) s$", re.MULTILINE)
TRIAL_S = 4.0  # of each configuration of the loop
LOOP_S = 20.0  # the most of a loop in a round
POLL_S = 0.003  # between two looks at the results of the command

Repeated = Callable[[str, Callable[[], tuple[Any, UsageDelta]]], Any]


class CommandRun(NamedTuple):
    """Images/s from the first answer and from the loaded model, and the seconds of both parts."""

    rate: float
    rate_with_first: float
    seconds: float
    startup_s: float


class Rounds(NamedTuple):
    """The results of one network: those of the command, and images/s of the loops."""

    network: str
    command: list[CommandRun]
    loops: dict[LoopConfig, list[float]]

    def row(self) -> str:
        """Return one line of the table."""
        config, loop = max(self.loops.items(), key=lambda item: statistics.median(item[1]))
        rates = [run.rate for run in self.command]
        with_first = [run.rate_with_first for run in self.command]
        figures = [f"{statistics.median(each):.1f}" for each in (rates, loop)]
        ratios = [str(paired_ratio(each, loop)) for each in (rates, with_first)]
        startup = f"{statistics.median(run.startup_s for run in self.command):.1f}"
        cells = [self.network, str(len(loop)), *figures, *ratios, startup, str(config)]
        return f"| {' | '.join(cells)} |"


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="bench.batch_cli",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", nargs="+", choices=ROUNDS, default=list(ROUNDS))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, help="of each network")
    parser.add_argument("--no-repeat", dest="repeat", action="store_false")
    given = parser.parse_args(arguments)
    if given.images <= CORES * CLASSIFY_BATCH:
        parser.error("--images must be more than a batch for each core")
    return given


def write_files(folder: Path, count: int) -> list[Path]:
    """Write the photographs of bench.serve again and again, each time under another name."""
    folder.mkdir()
    with tempfile.TemporaryDirectory() as drawn:
        photos = photographs.write(Path(drawn))
        return [
            Path(shutil.copy(photos[n % len(photos)], folder / f"photo-{n:04}.jpg"))
            for n in range(count)
        ]


def run_command(model: Path, files: Path, out: Path) -> tuple[CommandRun, UsageDelta]:
    """Run the command on a folder; also return the CPU use meanwhile.

    Raises:
        RuntimeError: it has failed, or an image has no answer.
    """
    command = [sys.executable, "-m", "app", "classify", str(files), "--out", str(out)]
    command += ["--classifier", str(model)]
    out.unlink(missing_ok=True)
    before = usage({"command": os.getpid()})  # with its children, also after their end
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=untuned()) as process:  # noqa: S603  # ours
        began, first = first_answers(process, out)
        messages = process.communicate()[1]
    delta = usage_between(before, usage({"command": os.getpid()}))
    found = SUMMARY.search(messages)
    if process.returncode != 0 or found is None:
        raise RuntimeError(f"the command has failed: {messages}")
    images, seconds = int(found[1].replace(",", "")), float(found[2])
    rate = (images - first) / (out.stat().st_mtime - began)
    return CommandRun(rate, images / seconds, seconds, float(found[3])), delta


def first_answers(process: subprocess.Popen[str], out: Path) -> tuple[float, int]:
    """Wait for a batch of answers of each process; return the time of day and their number."""
    while process.poll() is None:
        if out.exists() and (answers := out.read_bytes().count(b"\n")) >= CORES * CLASSIFY_BATCH:
            return time.time(), answers
        time.sleep(POLL_S)
    return time.time(), 0


def best(loop: BareLoop, repeated: Repeated) -> list[LoopConfig]:
    """Return the configuration with the highest rate for each number of processes."""
    rates = {
        config: repeated(f"the loop with {config}", partial(loop.run, config, TRIAL_S)).rate
        for config in loop_configs(sorted({*BATCHES, CLASSIFY_BATCH}))
    }
    numbers = dict.fromkeys(config.processes for config in rates)
    return [max((c for c in rates if c.processes == n), key=rates.__getitem__) for n in numbers]


def measured(network: str, given: argparse.Namespace, folder: Path) -> Rounds:
    """Measure all rounds with one network."""
    repeated: Repeated = undisturbed if given.repeat else once
    model = checkpoint.bundled("classify")
    if network != BUNDLED:
        model = folder / "model"
        checkpoints.write(network, model)
    files = write_files(folder / "photos", given.images)
    command = partial(run_command, model, folder / "photos", folder / "results.jsonl")
    with bare_loop(model, "torch", files) as loop:
        rounds = Rounds(network, [], {config: [] for config in best(loop, repeated)})
        for _ in range(given.rounds or ROUNDS[network]):
            run = repeated("the command", command)
            rounds.command.append(run)
            for config, rates in rounds.loops.items():
                seconds = min(run.seconds, LOOP_S)
                rates.append(repeated("the loop", partial(loop.run, config, seconds)).rate)
    return rounds


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table and write it."""
    given = parsed(arguments)
    lines = [
        "# `patchserve classify` on many files against the bare loop",
        "",
        f"{machine.cpu()}. {given.images:,} JPEG files of {photographs.WIDTH} x "
        f"{photographs.HEIGHT} pixels. Medians of interleaved rounds; the ratio is taken within a "
        "round. The rate of the command counts from its first answers, a batch of each process, to "
        "its last, the second ratio from the loaded model. Its start-up is the time before, from "
        "the start of the process.",
        "",
        "| network | rounds | command, images/s | loop, images/s | ratio | from the loaded model | "
        "start-up, s | the loop |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for network in given.networks:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measured(network, given, Path(folder)).row())
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
