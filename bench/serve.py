"""Measures the service, and its peers, against the bare loop of what they do.

    python -m bench.serve [--networks NAME...] [--servers NAME...] [--concurrency N...]
                          [--open PART...] [--rounds N] [--seconds S] [--runtime torch|openvino]
                          [--out FOLDER]

Every server is a process of its own, and so is who asks it; they and the loop take turns. All of
it takes some 35 minutes; one network, server and concurrency alone one or two.
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
from bench.serving import photographs, report
from bench.serving.baseline import raw_loop
from bench.serving.plot import draw
from bench.serving.report import Found
from bench.serving.rounds import Field, Plan, measure, write_requests
from bench.serving.servers import OURS, SERVERS, installed, running, untuned
from bench.serving.summary import Load

RESULTS = Path(__file__).parent / "results" / "serve.md"
NETWORKS = {  # the seconds of a turn: a hundred images at least, for the batches at its edges
    "T": 3.0,
    "ViT-Ti/16": 6.0,
    "ViT-B/16": 16.0,
    "SegFormer-B0": 6.0,
}
PEERS_RUN = ("T",)  # where what surrounds the network shows
CONCURRENCY = (1, 8, 32, 64)
OPEN = (0.5,)


class Options(NamedTuple):
    """What the command line asks for."""

    networks: Sequence[str]
    servers: Sequence[str]
    loads: Sequence[Load]
    seconds: float  # 0 is what suits the network
    rounds: int
    runtime: str
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """The options of a command line; everything that is installed, unless it says otherwise."""
    parser = argparse.ArgumentParser(prog="bench.serve")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--concurrency", nargs="+", type=int, default=list(CONCURRENCY))
    parser.add_argument("--open", nargs="*", type=float, default=list(OPEN))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--runtime", choices=("torch", "openvino"), default="torch")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = parser.parse_args(arguments)
    loads = [Load(concurrency=n) for n in given.concurrency] + [Load(part=p) for p in given.open]
    servers = [name for name in given.servers if installed(name)]
    for name in {*given.servers}.difference(servers):
        print(f"{name} is left out: pip install --group bench-peers", file=sys.stderr)
    return Options(
        given.networks, servers, loads, given.seconds, given.rounds, given.runtime, given.out
    )


def measured(network: str, options: Options, folder: Path) -> Found:
    """All rounds with one network."""
    checkpoints.write(network, folder, smoothly=True)
    photos = photographs.write(folder)
    task = "segment" if checkpoints.kind_of(network) == "SegFormer" else "classify"
    names = [name for name in options.servers if name == OURS or network in PEERS_RUN]
    with ExitStack() as stack:
        loop = stack.enter_context(raw_loop(folder, options.runtime, photos))
        loop.expect(folder / "expected.npy")
        ways = loop.best()
        generator = stack.enter_context(child("bench.serving.generator", env=untuned()))
        servers = []
        for name in names:
            server = stack.enter_context(running(name, folder, task, options.runtime))
            servers.append(server)
        requests = {one.name: write_requests(one, task, photos, folder) for one in servers}
        expected = np.load(folder / "expected.npy")
        field = Field(servers, requests, expected, generator, loop, ways)
        plan = Plan(options.loads, options.seconds or NETWORKS[network], options.rounds)
        rounds = list(measure(field, plan))
        memory = {one.name: peak_memory(one.pid) for one in servers}
        return Found(network, plan.seconds, (str(ways[0]), str(ways[1])), rounds, memory)


def publish(founds: Sequence[Found], options: Options) -> None:
    """Keep what is known so far; print it of the last network."""
    tables = [report.table(found) for found in founds]
    lines = report.heading()
    print("\n".join([*lines, *tables[-1]]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / RESULTS.name).write_text("\n".join(sum(tables, lines)))
    draw(founds, options.out / RESULTS.with_suffix(".png").name)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure with one network after the other; print the tables and keep them, with a plot."""
    options = parsed(arguments)
    founds: list[Found] = []
    for network in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            founds.append(measured(network, options, Path(folder)))
        publish(founds, options)


if __name__ == "__main__":
    main(sys.argv[1:])
