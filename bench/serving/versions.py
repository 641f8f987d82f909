"""Two checkouts of the service against each other, in paired rounds of one run."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.common import checkpoints, machine
from bench.common.children import Child, child
from bench.common.ratios import CONFIDENCE, paired_ratio
from bench.serving import photographs
from bench.serving.baseline import bare_loop
from bench.serving.rounds import (
    Plan,
    Run,
    Setup,
    measure_load,
    resumed,
    warm_up,
    write_requests,
)
from bench.serving.servers import (
    OURS,
    SERVERS,
    Site,
    free_port,
    launched,
    ours_from,
    untuned,
)
from bench.serving.summary import Load, Measurement

ROUNDS_PER_START = 4  # then both servers start anew, because two starts of one version differ
FIGURES: tuple[tuple[str, str, Callable[[Measurement], float]], ...] = (
    ("images/s", "{:.1f}", lambda one: one.rate),
    ("CPU ms per image", "{:.2f}", lambda one: one.cpu_ms),
    ("p50 ms", "{:.2f}", lambda one: one.p50),
    ("p99 ms", "{:.2f}", lambda one: one.p99),
)


class Pair(NamedTuple):
    """Measurements of both versions in one round, under one load."""

    new: Measurement
    old: Measurement


Pairs = Mapping[Load, Sequence[Pair]]


def compare(
    network: str, checkouts: tuple[Path, Path], runtime: str, plan: Plan, folder: Path
) -> Pairs:
    """Measure two checkouts with one network.

    Args:
        network: a network of bench.common.checkpoints.
        checkouts: the new and the old version.
        runtime: the runtime that both use.
        plan: loads, seconds and rounds.
        folder: an empty folder.

    Returns:
        The pairs of all rounds by load.
    """
    checkpoints.write(network, folder, smoothly=True)
    photos = photographs.write(folder)
    task = checkpoints.task_of(network)
    with bare_loop(folder, runtime, photos, workers=1) as loop:
        loop.expect(folder / "expected.npy")
    pairs: dict[Load, list[Pair]] = {load: [] for load in plan.loads}
    with child("bench.serving.generator", env=untuned()) as generator:
        for start, first in enumerate(range(0, plan.rounds, ROUNDS_PER_START)):
            rounds = range(first, min(first + ROUNDS_PER_START, plan.rounds))
            old_first = start % 2 == 1
            site = Site(folder, task, runtime, 0)
            with both_versions(checkouts, site, photos, generator, old_first) as setup:
                for load, pair in paired_rounds(setup, plan, rounds):
                    pairs[load].append(pair)
    return pairs


@contextmanager
def both_versions(
    checkouts: tuple[Path, Path],
    site: Site,
    photos: Sequence[Path],
    generator: Child,
    old_first: bool,
) -> Iterator[Setup]:
    """Start both versions, one after the other, and warm them up in the same order."""
    with ExitStack() as stack:
        servers = []
        named = list(zip(Pair._fields, checkouts, strict=True))
        for name, checkout in named[::-1] if old_first else named:
            port = free_port()
            command, env = ours_from(checkout, site._replace(port=port))
            log, kind = site.folder / "servers.log", SERVERS[OURS]
            server = launched(f"{name} version", command, port, log, server=kind, env=env)
            servers.append(stack.enter_context(server))
        requests = {
            one.name: write_requests(one, site.task, photos, site.folder) for one in servers
        }
        expected = np.load(site.folder / "expected.npy")
        in_order = servers[::-1] if old_first else servers  # new, old, like the fields of Pair
        setup = Setup(in_order, requests, expected, generator)
        for server in servers:
            warm_up(setup, server)
        yield setup


def paired_rounds(setup: Setup, plan: Plan, rounds: Iterable[int]) -> Iterator[tuple[Load, Pair]]:
    """Yield the pair of each round and load; the version that is measured first alternates."""
    for number in rounds:
        order = setup.servers if number % 2 == 0 else setup.servers[::-1]
        for load in plan.loads:
            measured = {}
            for server in order:
                with resumed(server):
                    measured[server.name] = measure_load(setup, server, Run(load, plan.seconds))
            yield load, Pair(*(measured[server.name] for server in setup.servers))


def heading(checkouts: tuple[Path, Path], rounds: int) -> list[str]:
    """Return the introduction of the table."""
    return [
        "# Two versions of the service",
        "",
        f"{machine.cpu()}. New: {checkouts[0]}. Old: {checkouts[1]}. {rounds} rounds, in which "
        "both versions are measured one after the other, each one first in every second round; "
        f"both start anew after {ROUNDS_PER_START} rounds, in the other order. "
        f"The ratio is the median over rounds of new / old, with the {CONFIDENCE:.0%} interval of "
        "this median in brackets (order statistics of the ratios). The other figures are medians "
        "over rounds.",
        "",
        "| network | load | figure | new | old | new / old |",
        "|---|---|---|---|---|---|",
    ]


def table(network: str, pairs: Pairs) -> list[str]:
    """Return the lines of a network: one for each load and figure."""
    lines = []
    for load, both in pairs.items():
        for name, shape, figure in FIGURES:
            new, old = ([figure(one) for one in side] for side in zip(*both, strict=True))
            medians = [shape.format(statistics.median(values)) for values in (new, old)]
            cells = [network, str(load), name, *medians, str(paired_ratio(new, old))]
            lines.append(f"| {' | '.join(cells)} |")
        errors = [str(sum(one.errors for one in side)) for side in zip(*both, strict=True)]
        lines.append(f"| {network} | {load} | errors | {' | '.join(errors)} | |")
    return lines
