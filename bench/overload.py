"""Measures the service while it is offered far more requests than it can process.

    python -m bench.overload [--networks NAME... --timeout-s SECONDS... --concurrency N...]
                             [--seconds S] [--factor F] [--workers N]
                             [--runtime auto|torch|openvino] [--out FOLDER]
                             [--capacity-s S] [--calm-s S] [--no-repeat]

One run measures the capacity in a closed loop, the latency of single requests, a burst of three
times the capacity at random times for a minute, single requests again until latency is normal, and
the capacity once more. The load generator is a process of its own and does not wait for responses.
A run takes about three minutes for each network. `--networks`, `--timeout-s` and `--concurrency`
have one value for each run. A measurement that other processes disturb is repeated, except with
`--no-repeat`.
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
from bench.common.cpu import Usage, UsageDelta, usage, usage_between
from bench.common.idle import once, undisturbed
from bench.common.resources import sampling
from bench.common.sigterm import exit_on_sigterm
from bench.serving import burst_report, photographs
from bench.serving.arrivals import Phase
from bench.serving.burst import Times
from bench.serving.burst_cases import CALM, Case, CaseResult
from bench.serving.burst_plot import draw
from bench.serving.records import Record
from bench.serving.rounds import write_requests
from bench.serving.servers import OURS, Running, Site, free_port, launched, ours, untuned

RESULTS = Path(__file__).parent / "results" / "overload.md"
NETWORKS = ("T", "ViT-Ti/16", "ViT-B/16", "SegFormer-B0")
WARM = 0.2  # warm-up of a measurement of the capacity, as a fraction of its length
CONNECTIONS = 800  # maximum; a process may open 1024 files by default
SAMPLE_S = 0.5  # between samples of the memory


class Options(NamedTuple):
    """The options of the command line.

    Attributes:
        cases: what is measured, one after the other.
        out: folder of the results.
        capacity_s: length of a measurement of the capacity, in seconds.
        calm_s: time of single requests before and after the burst, in seconds.
        repeat: whether measurements that other processes disturb are repeated.
    """

    cases: Sequence[Case]
    out: Path
    capacity_s: float
    calm_s: float
    repeat: bool


def parsed(arguments: Sequence[str]) -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="bench.overload")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["T", "ViT-B/16"])
    parser.add_argument("--timeout-s", nargs="+", type=float, default=[1.0, 1.5])
    parser.add_argument("--concurrency", nargs="+", type=int, default=[32, 6])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--runtime", choices=("auto", "torch", "openvino"), default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    parser.add_argument("--capacity-s", type=float, default=30.0)
    parser.add_argument("--calm-s", type=float, default=15.0)
    parser.add_argument("--no-repeat", dest="repeat", action="store_false")
    given = parser.parse_args(arguments)
    if not len(given.networks) == len(given.timeout_s) == len(given.concurrency):
        parser.error("give as many values of --timeout-s and --concurrency as networks")
    cases = [
        Case(*each, given.seconds, given.factor, given.workers, given.runtime)
        for each in zip(given.networks, given.timeout_s, given.concurrency, strict=True)
    ]
    return Options(cases, given.out, given.capacity_s, given.calm_s, given.repeat)


def command(case: Case, folder: Path, port: int) -> list[str]:
    """Return the command of the service, with the deadline and the replicas of the case."""
    site = Site(folder, checkpoints.task_of(case.network), case.runtime, port)
    more = ["--request-timeout-s", f"{case.timeout_s:g}", "--workers", str(case.workers)]
    return [*ours(site), *more]


class Setup(NamedTuple):
    """The options, the processes that take part, and the port and requests for the generator."""

    options: Options
    case: Case
    server: Running
    generator: Child
    target: dict[str, Any]

    def usage(self) -> Usage:
        """Return the CPU time that the service and the generator have used."""
        return usage({"service": self.server.pid, "generator": self.generator.pid})


def measured(case: Case, options: Options, folder: Path) -> CaseResult:
    """Measure one case."""
    checkpoints.write(case.network, folder, smoothly=True)
    photos = photographs.write(folder)
    port = free_port()
    with (
        launched(OURS, command(case, folder, port), port, folder / "servers.log") as server,
        child("bench.serving.generator", env=untuned()) as generator,
    ):
        files = write_requests(server, checkpoints.task_of(case.network), photos, folder)
        target = {"port": port, "requests": [str(file) for file in files]}
        setup = Setup(options, case, server, generator, target)
        repeated = undisturbed if options.repeat else once
        before = repeated("the capacity", partial(capacity, setup))
        result = repeated("the burst", partial(run_burst, setup, before))
        after = repeated("the capacity", partial(capacity, setup))
        return result._replace(capacity_after=after)


def capacity(setup: Setup) -> tuple[float, UsageDelta]:
    """Return the responses per second of a closed loop, and the CPU use meanwhile.

    Raises:
        RuntimeError: there were refused or lost requests.
    """
    concurrency, generator = setup.case.concurrency, setup.generator
    capacity_s = setup.options.capacity_s
    times = {"warm_s": WARM * capacity_s, "seconds": capacity_s}
    generator.send(do="closed", concurrency=concurrency, **times, **setup.target)
    generator.receive("begin")
    before = setup.usage()
    generator.receive("end")
    delta = usage_between(before, setup.usage())
    done = generator.receive("done")
    if done["errors"]:
        raise RuntimeError(f"at a concurrency of {concurrency}: {done['errors'][0]}")
    return len(done["latencies_ms"]) / delta.seconds, delta


def run_burst(setup: Setup, rate: float) -> tuple[CaseResult, UsageDelta]:
    """Send few requests, the burst, and few again; also return the CPU use during the burst."""
    case, generator, calm_s = setup.case, setup.generator, setup.options.calm_s
    phases = [
        Phase(CALM * rate, calm_s, even=True),
        Phase(case.factor * rate, case.seconds),
        Phase(CALM * rate, case.timeout_s + calm_s, even=True),
    ]
    job = {"phases": [phase._asdict() for phase in phases], "connections": CONNECTIONS, "seed": 0}
    with sampling(setup.server.pid, SAMPLE_S) as samples:
        generator.send(do="phases", **job, **setup.target)
        usages: list[Usage] = []
        for _ in phases:
            generator.receive("phase")
            usages.append(setup.usage())
        done = generator.receive("done")
    columns = done["records"].values()
    begins = done["started"] + calm_s
    delta = usage_between(usages[1], usages[2])
    result = CaseResult(
        case,
        rate,
        [Record(*row) for row in zip(*columns, strict=True)],
        Times(begins, begins + case.seconds),
        delta,
        list(samples),
        done["unsent"],
        done["unanswered"],
    )
    return result, delta


def publish(results: Sequence[CaseResult], out: Path) -> None:
    """Print the results so far; write them and a plot."""
    lines = burst_report.lines(results)
    print("\n".join(lines), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / RESULTS.name).write_text("\n".join(lines))
    draw(results, out / RESULTS.with_suffix(".png").name)


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Measure one case after the other."""
    options = parsed(arguments)
    results: list[CaseResult] = []
    for case in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measured(case, options, Path(folder)))
        publish(results, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
