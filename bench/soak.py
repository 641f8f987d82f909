"""Runs mixed good and bad traffic against the service for a long time, and looks for what grows.

    python -m bench.soak [--minutes M] [--part P] [--warm-up MINUTES] [--seed N] [--workers N]
                         [--out FOLDER]

The service serves the bundled checkpoints and is a process of its own, and so is who asks it: at
random times, a part of what the service manages, and every half minute a burst of more than its
queue holds. Each kind of request has its expected answers; anything else is an error.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.common.children import child
from bench.common.cpu import between, usage
from bench.common.resources import watched
from bench.serving.servers import OURS, bundled, free_port, launched, untuned
from bench.soaking import report
from bench.soaking.plot import draw
from bench.soaking.report import Found

RESULTS = Path(__file__).parent / "results" / "soak.md"
CAPACITY_S, CONCURRENCY = 15.0, 16
SAMPLE_S = 1.0
LONGEST_WARM_UP = 5.0  # minutes


class Options(NamedTuple):
    """What the command line asks for.

    Attributes:
        part: of the capacity, which those requests take that ask for work.
        warm_up: minutes that do not count; 0 is a fifth of all, but five at most.
    """

    minutes: float
    part: float
    warm_up: float
    seed: int
    workers: int
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """The options of a command line."""
    parser = argparse.ArgumentParser(prog="bench.soak")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--part", type=float, default=0.6)
    parser.add_argument("--warm-up", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = Options(**vars(parser.parse_args(arguments)))
    usual = min(given.minutes / 5, LONGEST_WARM_UP)
    return given._replace(warm_up=given.warm_up or usual)


def measured(options: Options, log: Path) -> Found:
    """The whole run."""
    port = free_port()
    command = [*bundled(port), "--workers", str(options.workers)]
    with (
        launched(OURS, command, port, log) as server,
        child("bench.soaking.traffic", env=untuned()) as traffic,
    ):
        traffic.ask(do="capacity", port=port, seconds=CAPACITY_S, concurrency=CONCURRENCY)
        managed = traffic.hear("done")
        roots = {"service": server.pid, "traffic": traffic.pid}
        rate, seconds = options.part * managed["rate"] / managed["part"], options.minutes * 60
        with watched(server.pid, SAMPLE_S) as samples:
            before = usage(roots)
            traffic.ask(do="mixed", port=port, seconds=seconds, rate=rate, seed=options.seed)
            traffic.hear("end")
            share = between(before, usage(roots))
        done = traffic.hear("done")
    warnings = [line for line in log.read_text().splitlines() if line]
    return Found(
        options.warm_up,
        managed["rate"],
        rate,
        [one._replace(at=one.at - done["began"]) for one in samples],
        share,
        done["kinds"],
        done["seconds"],
        done["unexpected"],
        done["examples"],
        warnings,
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Print the figures and keep them, with a plot."""
    options = parsed(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options, Path(folder) / "service.log")
    lines = report.lines(found)
    print("\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / RESULTS.name).write_text("\n".join(lines))
    draw(found, options.out / RESULTS.with_suffix(".png").name)


if __name__ == "__main__":
    main(sys.argv[1:])
