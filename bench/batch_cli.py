"""Compares `patchserve classify` on 1,000 files with a bare loop on the same files.

    python -m bench.batch_cli [--networks NAME...] [--images N] [--rounds N] [--no-repeat]

The bare loop is that of bench.serve, in its best configuration. In each round the command answers
all files once and the loop runs for as long as the command needed. The rate of the command is that
of its summary: all images by the time from the loaded model to the last answer. Its start-up, from
the start of the process to the loaded model, is a column of its own. A measurement is repeated if
other processes use the machine, unless --no-repeat is given. It takes about 15 minutes on two
cores, most of it for ViT-B/16.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.common import checkpoints, machine
from bench.common.cpu import UsageDelta, usage, usage_between
from bench.common.idle import once, undisturbed
from bench.common.ratios import paired_ratio
from bench.serving import photographs
from bench.serving.baseline import BareLoop, LoopConfig, bare_loop, loop_configs
from bench.serving.servers import untuned
from models import checkpoint

RESULTS = Path(__file__).parent / "results" / "batch_cli.md"
BUNDLED = "bundled"
NETWORKS = (BUNDLED, "ViT-B/16")
SUMMARY = re.compile(r"([\d,]+) images in ([\d.]+) s \(.*\), start-up ([\d.]+) s$", re.MULTILINE)
TRIAL_S = 2.0  # of each configuration of the loop

Repeated = Callable[[str, Callable[[], tuple[Any, UsageDelta]]], Any]


class CommandRun(NamedTuple):
    """Seconds from the loaded model to the last answer, and from the start to the loaded model."""

    seconds: float
    startup_s: float


class Rounds(NamedTuple):
    """The results of one network: images/s of the command and of the loop, seconds of start-up."""

    network: str
    config: LoopConfig
    command: list[float]
    loop: list[float]
    startup_s: list[float]

    def row(self) -> str:
        """Return one line of the table."""
        figures = [f"{statistics.median(rates):.1f}" for rates in (self.command, self.loop)]
        ratio = paired_ratio(self.command, self.loop)
        startup = f"{statistics.median(self.startup_s):.1f}"
        return f"| {' | '.join([self.network, *figures, str(ratio), startup, str(self.config)])} |"


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="bench.batch_cli",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--no-repeat", dest="repeat", action="store_false")
    return parser.parse_args(arguments)


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
    before = usage({"command": os.getpid()})  # with its children, also after their end
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=untuned())  # noqa: S603  # ours
    delta = usage_between(before, usage({"command": os.getpid()}))
    found = SUMMARY.search(ended.stderr)
    if ended.returncode != 0 or found is None:
        raise RuntimeError(f"the command has failed: {ended.stderr}")
    return CommandRun(float(found[2]), float(found[3])), delta


def best(loop: BareLoop, repeated: Repeated) -> LoopConfig:
    """Return the configuration of the loop with the highest rate."""
    rates = {
        config: repeated(f"the loop with {config}", partial(loop.run, config, TRIAL_S)).rate
        for config in loop_configs()
    }
    return max(rates, key=lambda config: rates[config])


def measured(network: str, given: argparse.Namespace, folder: Path) -> Rounds:
    """Measure all rounds with one network."""
    repeated: Repeated = undisturbed if given.repeat else once
    model = checkpoint.bundled("classify")
    if network != BUNDLED:
        model = folder / "model"
        checkpoints.write(network, model)
    files = write_files(folder / "photos", given.images)
    command = partial(run_command, model, folder / "photos", folder / "results.jsonl")
    rounds = Rounds(network, LoopConfig(0, 0, 0), [], [], [])
    with bare_loop(model, "torch", files) as loop:
        config = best(loop, repeated)
        for _ in range(given.rounds):
            run = repeated("the command", command)
            ran = repeated("the loop", partial(loop.run, config, run.seconds))
            rounds.command.append(len(files) / run.seconds)
            rounds.loop.append(ran.rate)
            rounds.startup_s.append(run.startup_s)
    return rounds._replace(config=config)


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table and write it."""
    given = parsed(arguments)
    lines = [
        "# `patchserve classify` on many files against the bare loop",
        "",
        f"{machine.cpu()}. {given.images:,} JPEG files of {photographs.WIDTH} x "
        f"{photographs.HEIGHT} pixels. Medians of {given.rounds} interleaved rounds; the ratio is "
        "taken within a round. The rate of the command counts from the loaded model to the last "
        "answer; its start-up is the time before, from the start of the process.",
        "",
        "| network | command, images/s | loop, images/s | ratio | start-up, s | the loop |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for network in given.networks:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measured(network, given, Path(folder)).row())
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
