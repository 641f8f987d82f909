"""Measures the service, and its peers, against the bare loop of what they do.

    python -m bench.serve [--networks NAME...] [--servers NAME...] [--concurrency N...]
                          [--open PART...] [--rounds N] [--seconds S] [--runtime torch|openvino]
                          [--out FOLDER]

Every server is a process of its own, and so is who asks it; they and the loop take turns.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import random_checkpoints
from bench.serving import photographs, report
from bench.serving.children import child
from bench.serving.figures import Load, Round
from bench.serving.raw_loop import Way, raw_loop
from bench.serving.rounds import Field, Plan, measure, write_requests
from bench.serving.servers import OURS, SERVERS, installed, running, untuned

RESULTS = Path(__file__).parent / "results" / "serve.md"
NETWORKS = ("T", "ViT-Ti/16", "ViT-B/16", "SegFormer-B0")
PEERS_RUN = ("T",)  # where what surrounds the network shows
CONCURRENCY = (1, 8, 32, 64)
OPEN = (0.5,)


class Options(NamedTuple):
    """What the command line asks for."""

    networks: Sequence[str]
    servers: Sequence[str]
    plan: Plan
    runtime: str
    out: Path


def parsed(arguments: Sequence[str]) -> Options:
    """The options of a command line; everything that is installed, unless it says otherwise."""
    parser = argparse.ArgumentParser(prog="bench.serve")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--concurrency", nargs="*", type=int, default=list(CONCURRENCY))
    parser.add_argument("--open", nargs="*", type=float, default=list(OPEN))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--runtime", choices=("torch", "openvino"), default="torch")
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = parser.parse_args(arguments)
    loads = [Load(concurrency=n) for n in given.concurrency] + [Load(part=p) for p in given.open]
    servers = [name for name in given.servers if installed(name)]
    plan = Plan(loads, given.seconds, given.rounds)
    return Options(given.networks, servers, plan, given.runtime, given.out)


class Found(NamedTuple):
    """What was measured with one network."""

    network: str
    ways: tuple[Way, Way]
    rounds: Sequence[Round]


def measured(network: str, options: Options, folder: Path) -> Found:
    """All rounds with one network."""
    random_checkpoints.write(network, folder)
    photos = photographs.write(folder)
    task = "segment" if random_checkpoints.kind_of(network) == "SegFormer" else "classify"
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
        return Found(network, ways, list(measure(field, options.plan)))


def main(arguments: Sequence[str] = ()) -> None:
    """Measure with one network after the other; print the tables and keep them, with a plot."""
    options = parsed(arguments)
    for network in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            found = measured(network, options, Path(folder))
        print("\n".join(report.table(found.network, found.ways, found.rounds)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
