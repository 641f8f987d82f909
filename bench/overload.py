"""Measures what the service does when far more is asked of it than it can do.

    python -m bench.overload [--networks NAME...] [--timeout-s SECONDS...] [--seconds S]
                             [--factor F] [--workers N] [--concurrency N]
                             [--runtime auto|torch|openvino] [--out FOLDER]

In one run: what it manages when as many as it likes are waiting (its capacity), how long a lone
request takes, a burst at random times of three times the capacity for a minute, single requests
again until all is as before, and the capacity once more. Who asks is a process of its own and
waits for nobody. About three minutes for each network and timeout; what was measured while others
used the machine is measured again.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bench.common import checkpoints
from bench.common.children import Child, child
from bench.common.cpu import Share, Usage, between, usage
from bench.common.idle import undisturbed
from bench.common.resources import watched
from bench.serving import burst_report, photographs
from bench.serving.arrivals import Phase
from bench.serving.burst import Times
from bench.serving.burst_cases import CALM, Case, Found
from bench.serving.burst_plot import draw
from bench.serving.records import Record
from bench.serving.rounds import write_requests
from bench.serving.servers import OURS, Running, Site, free_port, launched, ours, untuned

RESULTS = Path(__file__).parent / "results" / "overload.md"
NETWORKS = ("T", "ViT-Ti/16", "ViT-B/16", "SegFormer-B0")
CAPACITY_S, WARM_S = 30.0, 6.0
BEFORE_S, AFTER_S = 15.0, 15.0
CONNECTIONS = 800  # at most; select takes 1024
SAMPLE_S = 0.5


class Options(NamedTuple):
    """What the command line asks for."""

    cases: Sequence[Case]
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """The options of a command line: each network with each timeout."""
    parser = argparse.ArgumentParser(prog="bench.overload")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["ViT-B/16"])
    parser.add_argument("--timeout-s", nargs="+", type=float, default=[5.0, 30.0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--runtime", choices=("auto", "torch", "openvino"), default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = parser.parse_args(arguments)
    cases = [
        Case(
            network,
            timeout_s,
            given.seconds,
            given.factor,
            given.workers,
            given.concurrency,
            given.runtime,
        )
        for network in given.networks
        for timeout_s in given.timeout_s
    ]
    return Options(cases, given.out)


def command(case: Case, folder: Path, port: int) -> list[str]:
    """The service as anyone starts it, with the deadline and the replicas of the case."""
    site = Site(folder, task_of(case.network), case.runtime, port)
    more = ["--request-timeout-s", f"{case.timeout_s:g}", "--workers", str(case.workers)]
    return [*ours(site), *more]


def task_of(network: str) -> str:
    """classify or segment."""
    return "segment" if checkpoints.kind_of(network) == "SegFormer" else "classify"


def measured(case: Case, folder: Path) -> Found:
    """The whole run of one case."""
    checkpoints.write(case.network, folder, smoothly=True)
    photos = photographs.write(folder)
    port = free_port()
    with (
        launched(OURS, command(case, folder, port), port, folder / "servers.log") as server,
        child("bench.serving.generator", env=untuned()) as generator,
    ):
        files = write_requests(server, task_of(case.network), photos, folder)
        how = {"port": port, "requests": [str(file) for file in files]}
        field = Field(case, server, generator, how)
        rate = undisturbed("the capacity", partial(capacity, field))
        found = undisturbed("the burst", partial(storm, field, rate))
        return found._replace(again=undisturbed("the capacity", partial(capacity, field)))


class Field(NamedTuple):
    """Who takes part, and what the generator is told of whom to ask."""

    case: Case
    server: Running
    generator: Child
    how: dict[str, Any]

    def usage(self) -> Usage:
        """What both have used of the processor."""
        return usage({"service": self.server.pid, "generator": self.generator.pid})


def capacity(field: Field) -> tuple[float, Share]:
    """Answers a second when so many are always waiting for one.

    Raises:
        RuntimeError: some got none, or none but a refusal.
    """
    concurrency, generator = field.case.concurrency, field.generator
    span = {"warm_s": WARM_S, "seconds": CAPACITY_S}
    generator.ask(do="closed", concurrency=concurrency, **span, **field.how)
    generator.hear("begin")
    before = field.usage()
    generator.hear("end")
    share = between(before, field.usage())
    done = generator.hear("done")
    if done["errors"]:
        raise RuntimeError(f"at a concurrency of {concurrency}: {done['errors'][0]}")
    return len(done["latencies_ms"]) / share.seconds, share


def storm(field: Field, rate: float) -> tuple[Found, Share]:
    """Few requests, the burst, and few again."""
    case, generator = field.case, field.generator
    phases = [
        Phase(CALM * rate, BEFORE_S, even=True),
        Phase(case.factor * rate, case.seconds),
        Phase(CALM * rate, case.timeout_s + AFTER_S, even=True),
    ]
    told = [phase._asdict() for phase in phases]
    with watched(field.server.pid, SAMPLE_S) as samples:
        generator.ask(do="phases", phases=told, connections=CONNECTIONS, seed=0, **field.how)
        usages: list[Usage] = []
        for _ in phases:
            generator.hear("phase")
            usages.append(field.usage())
        done = generator.hear("done")
    columns = done["records"].values()
    begins = done["started"] + BEFORE_S
    share = between(usages[1], usages[2])
    found = Found(
        case,
        rate,
        [Record(*row) for row in zip(*columns, strict=True)],
        Times(begins, begins + case.seconds),
        share,
        list(samples),
        done["unsent"],
        done["unanswered"],
    )
    return found, share


def publish(founds: Sequence[Found], out: Path) -> None:
    """Print what is known so far and keep it, with a plot."""
    lines = burst_report.lines(founds)
    print("\n".join(lines), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULTS.name).write_text("\n".join(lines))
    draw(founds, out / RESULTS.with_suffix(".png").name)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure one case after the other."""
    options = parsed(arguments)
    founds: list[Found] = []
    for case in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            founds.append(measured(case, Path(folder)))
        publish(founds, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
