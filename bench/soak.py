"""Sends mixed valid and invalid requests to the service for a long time, and checks for growth.

    python -m bench.soak [--minutes M] [--part P] [--warm-up MINUTES] [--seed N] [--workers N]
                         [--out FOLDER]

The service with the bundled checkpoints and the load generator are processes of their own.
Requests come at random times, at a fraction of the capacity, and every half minute in a burst that
is larger than the queue. Each kind of request has its expected responses; any other is an error.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.common.children import child
from bench.common.cpu import usage, usage_between
from bench.common.resources import sampling
from bench.common.sigterm import exit_on_sigterm
from bench.serving.servers import OURS, bundled, free_port, launched, untuned
from bench.soaking import report
from bench.soaking.plot import draw
from bench.soaking.report import SoakResult

RESULTS = Path(__file__).parent / "results" / "soak.md"
CAPACITY_S, CONCURRENCY = 15.0, 16  # measurement of the capacity in a closed loop
SAMPLE_S = 1.0  # between samples of the memory
MAX_WARM_UP = 5.0  # minutes, without --warm-up


class Options(NamedTuple):
    """The options of the command line.

    Attributes:
        minutes: length of the run.
        part: fraction of the capacity that the requests for work use.
        warm_up: minutes that do not count; by default a fifth of the run, at most five.
        seed: of the random times and requests.
        workers: replicas.
        out: folder for the results.
    """

    minutes: float
    part: float
    warm_up: float
    seed: int
    workers: int
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="bench.soak")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--part", type=float, default=0.6)
    parser.add_argument("--warm-up", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = Options(**vars(parser.parse_args(arguments)))
    usual = min(given.minutes / 5, MAX_WARM_UP)
    return given._replace(warm_up=given.warm_up or usual)


def measured(options: Options, log: Path) -> SoakResult:
    """Measure the whole run."""
    port = free_port()
    command = [*bundled(port), "--workers", str(options.workers)]
    with (
        launched(OURS, command, port, log) as server,
        child("bench.soaking.traffic", env=untuned()) as traffic,
    ):
        traffic.send(do="capacity", port=port, seconds=CAPACITY_S, concurrency=CONCURRENCY)
        capacity = traffic.receive("done")
        roots = {"service": server.pid, "traffic": traffic.pid}
        rate, seconds = options.part * capacity["rate"] / capacity["fraction"], options.minutes * 60
        with sampling(server.pid, SAMPLE_S) as samples:
            before = usage(roots)
            traffic.send(do="mixed", port=port, seconds=seconds, rate=rate, seed=options.seed)
            traffic.receive("end")
            delta = usage_between(before, usage(roots))
        done = traffic.receive("done")
    warnings = [line for line in log.read_text().splitlines() if line]
    return SoakResult(
        options.warm_up,
        capacity["rate"],
        rate,
        [one._replace(at=one.at - done["began"]) for one in samples],
        delta,
        done["kinds"],
        done["seconds"],
        done["unexpected"],
        done["examples"],
        warnings,
    )


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Print the figures and write them, with a plot."""
    options = parsed(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measured(options, Path(folder) / "service.log")
    lines = report.lines(result)
    print("\n".join(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / RESULTS.name).write_text("\n".join(lines))
    draw(result, options.out / RESULTS.with_suffix(".png").name)


if __name__ == "__main__":
    main(sys.argv[1:])
