"""Compares the service with other servers and with a bare loop, or with another version of itself.

    python -m bench.serve [--networks NAME...] [--servers NAME...] [--concurrency N...]
                          [--open FRACTION...] [--rounds N] [--seconds S]
                          [--runtime torch|openvino] [--out FOLDER]
    python -m bench.serve --against CHECKOUT [--networks NAME...] [--concurrency N...]
                          [--rounds N] [--seconds S] [--runtime torch|openvino]

Each server and the load generator are processes of their own, and the servers and the bare loop
are measured in interleaved rounds. All of it takes about 35 minutes on two cores, one network with
one server and one concurrency one or two minutes. The tables and a plot are written to --out.

With --against, the service of this checkout is compared with another checkout's service in paired
rounds, without bare loop and other servers. The result is only printed: for each network and
concurrency the median over rounds of the ratio new / old of throughput, CPU time per image and
latency, with its 95 % confidence interval (order statistics). By default (networks T and ViT-Ti/16,
1 and 32 clients, 15 rounds) it takes about 10 minutes on two cores. At least 15 rounds are
recommended; fewer than 6 give no interval.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.common import checkpoints
from bench.common.children import child
from bench.common.cpu import peak_memory
from bench.common.sigterm import exit_on_sigterm
from bench.serving import photographs, report, versions
from bench.serving.baseline import bare_loop
from bench.serving.plot import draw
from bench.serving.report import NetworkResult
from bench.serving.rounds import Baseline, Plan, Setup, measure, write_requests
from bench.serving.servers import OURS, SERVERS, installed, running, untuned
from bench.serving.summary import Load

RESULTS = Path(__file__).parent / "results" / "serve.md"
NETWORKS = {  # seconds of a measurement: long enough for a hundred images
    "T": 3.0,
    "ViT-Ti/16": 6.0,
    "ViT-B/16": 16.0,
    "SegFormer-B0": 6.0,
}
PEER_NETWORKS = ("T",)  # other servers run only this network: the cost around it is visible
CONCURRENCY = (1, 8, 32, 64)
OPEN = (0.5,)
ROUNDS = 5
VERSION_NETWORKS, VERSION_CONCURRENCY = ("T", "ViT-Ti/16"), (1, 32)  # defaults of --against
VERSION_ROUNDS = 15
VERSION_SECONDS = 0.5  # of the usual seconds: there are more rounds


class Options(NamedTuple):
    """The options of the command line; `seconds` 0 means the network's default."""

    networks: Sequence[str]
    servers: Sequence[str]
    loads: Sequence[Load]
    seconds: float
    rounds: int
    runtime: str
    out: Path
    against: Path | None = None

    def plan(self, network: str) -> Plan:
        """Return the loads, seconds and rounds of a network."""
        usual = NETWORKS[network] * (VERSION_SECONDS if self.against else 1.0)
        return Plan(self.loads, self.seconds or usual, self.rounds)


def parsed(arguments: Sequence[str]) -> Options:
    """Parse the command line; by default everything that is installed is measured."""
    parser = argparse.ArgumentParser(
        prog="bench.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--servers", nargs="+", choices=SERVERS)
    parser.add_argument("--concurrency", nargs="+", type=int, help="clients of a closed loop")
    parser.add_argument(
        "--open",
        nargs="*",
        type=float,
        help="random arrivals at these fractions of a server's highest rate in the closed loops",
    )
    parser.add_argument("--rounds", type=int, help="5 by default; 15 with --against")
    parser.add_argument("--seconds", type=float, default=0.0, help="of each measurement")
    parser.add_argument("--runtime", choices=("torch", "openvino"), default="torch")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="another checkout of this project"
    )
    given = parser.parse_args(arguments)
    return versions_options(parser, given) if given.against else usual_options(given)


def usual_options(given: argparse.Namespace) -> Options:
    """Return the options of a comparison with other servers and the bare loop."""
    names = list(SERVERS) if given.servers is None else given.servers
    servers = [name for name in names if installed(name)]
    for name in {*names}.difference(servers):
        print(f"{name} is not installed: pip install --group bench-peers", file=sys.stderr)
    fractions = OPEN if given.open is None else given.open
    loads = [Load(concurrency=n) for n in given.concurrency or CONCURRENCY]
    loads += [Load(fraction=fraction) for fraction in fractions]
    rounds, networks = given.rounds or ROUNDS, given.networks or list(NETWORKS)
    return Options(networks, servers, loads, given.seconds, rounds, given.runtime, given.out)


def versions_options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Options:
    """Return the options of a comparison with another checkout."""
    if given.servers or given.open:
        parser.error("--against measures closed loops and our own service only")
    if not (given.against / "app" / "__main__.py").is_file():
        parser.error(f"{given.against} is not a checkout of this project")
    loads = [Load(concurrency=n) for n in given.concurrency or VERSION_CONCURRENCY]
    return Options(
        given.networks or VERSION_NETWORKS,
        [OURS],
        loads,
        given.seconds,
        given.rounds or VERSION_ROUNDS,
        given.runtime,
        given.out,
        given.against.resolve(),
    )


def measured(network: str, options: Options, folder: Path) -> NetworkResult:
    """Measure all rounds with one network."""
    checkpoints.write(network, folder, smoothly=True)
    photos = photographs.write(folder)
    task = checkpoints.task_of(network)
    names = [name for name in options.servers if name == OURS or network in PEER_NETWORKS]
    with ExitStack() as stack:
        loop = stack.enter_context(bare_loop(folder, options.runtime, photos))
        loop.expect(folder / "expected.npy")
        configs = loop.best()
        generator = stack.enter_context(child("bench.serving.generator", env=untuned()))
        servers = []
        for name in names:
            server = stack.enter_context(running(name, folder, task, options.runtime))
            servers.append(server)
        requests = {one.name: write_requests(one, task, photos, folder) for one in servers}
        setup = Setup(servers, requests, np.load(folder / "expected.npy"), generator)
        plan = options.plan(network)
        rounds = list(measure(setup, Baseline(loop, configs), plan))
        memory = {one.name: peak_memory(one.pid) for one in servers}
        shown = (str(configs[0]), str(configs[1]))
        return NetworkResult(network, plan.seconds, shown, rounds, memory)


def publish(results: Sequence[NetworkResult], options: Options) -> None:
    """Print the table of the last network; write all tables and the plot."""
    tables = [report.table(result) for result in results]
    lines = report.heading()
    print("\n".join([*lines, *tables[-1]]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / RESULTS.name).write_text("\n".join(sum(tables, lines)))
    draw(results, options.out / RESULTS.with_suffix(".png").name)


def compare_versions(options: Options, other: Path) -> None:
    """Print the comparison of this checkout with another one."""
    checkouts = (Path(__file__).resolve().parents[1], other)
    print("\n".join(versions.heading(checkouts, options.rounds)), flush=True)
    for network in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            plan = options.plan(network)
            pairs = versions.compare(network, checkouts, options.runtime, plan, Path(folder))
        print("\n".join(versions.table(network, pairs)), flush=True)


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Measure one network after the other."""
    options = parsed(arguments)
    if options.against is not None:
        compare_versions(options, options.against)
        return
    results: list[NetworkResult] = []
    for network in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measured(network, options, Path(folder)))
        publish(results, options)


if __name__ == "__main__":
    main(sys.argv[1:])
