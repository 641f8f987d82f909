"""Interleaved rounds: in each round every server and the bare loop are measured once per load."""

import random
import re
import signal
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.common.children import Child
from bench.common.cpu import UsageDelta, usage, usage_between
from bench.common.idle import undisturbed
from bench.serving.baseline import BareLoop, LoopConfig
from bench.serving.histograms import Totals, means_between, totals
from bench.serving.servers import Running
from bench.serving.summary import Load, LoopFigures, Measurement, Round, percentile

WARM_FRACTION = 0.2  # warm-up before each measurement, as a fraction of its length
WARM_UP_S = 2.0  # warm-up of each server before the first round
WARM_UP_LOAD = Load(concurrency=32)
MIN_EQUAL_PIXELS = 0.999  # fraction of a mask: other batch sizes round differently


class Setup(NamedTuple):
    """The processes that take part.

    Attributes:
        servers: the servers.
        requests: the files with the requests, by server.
        expected: the correct label index or mask of each photograph.
        generator: the load generator.
    """

    servers: Sequence[Running]
    requests: Mapping[str, Sequence[Path]]
    expected: NDArray[Any]
    generator: Child


class Baseline(NamedTuple):
    """The bare loop, and its best configurations for throughput and for a single image."""

    loop: BareLoop
    configs: tuple[LoopConfig, LoopConfig]


class Run(NamedTuple):
    """A load, its duration, and for an open loop the rate and the seed of the arrival times."""

    load: Load
    seconds: float
    rate: float = 0.0
    seed: int = 0


class Plan(NamedTuple):
    """The loads, the seconds of each measurement, and the number of rounds."""

    loads: Sequence[Load]
    seconds: float
    rounds: int


def measure(setup: Setup, baseline: Baseline, plan: Plan) -> Iterator[Round]:
    """Yield round after round, with the servers and the bare loop in random order."""
    order = random.Random(0)  # noqa: S311  # not a secret
    for server in setup.servers:
        warm_up(setup, server)
    participants = [*setup.servers, None]  # None is the bare loop
    for number in range(plan.rounds):
        measurements: dict[tuple[str, Load], Measurement] = {}
        loops = []
        for server in order.sample(participants, len(participants)):
            if server is None:
                loops.append(measure_loop(baseline, plan.seconds))
                continue
            with resumed(server):
                measurements |= measure_server(setup, server, plan, number)
        yield Round(loops[0], measurements)


def warm_up(setup: Setup, server: Running) -> None:
    """Send requests to a server for some seconds."""
    with resumed(server):
        send_load(setup, server, Run(WARM_UP_LOAD, WARM_UP_S))


def measure_server(
    setup: Setup, server: Running, plan: Plan, seed: int
) -> dict[tuple[str, Load], Measurement]:
    """Measure a server under each load; open loops last, at fractions of its highest rate."""
    measurements: dict[tuple[str, Load], Measurement] = {}
    for load in sorted(plan.loads, key=lambda load: load.fraction):
        highest = max((one.rate for one in measurements.values()), default=0.0)
        run = Run(load, plan.seconds, load.fraction * highest, seed)
        measurements[server.name, load] = measure_load(setup, server, run)
    return measurements


def measure_load(setup: Setup, server: Running, run: Run) -> Measurement:
    """Measure a server under one load, again if other processes disturb it."""
    return undisturbed(f"{server.name}, {run.load}", partial(measure_once, setup, server, run))


def measure_loop(baseline: Baseline, seconds: float) -> LoopFigures:
    """Measure the bare loop in both configurations."""
    throughput, single = (
        undisturbed(f"the bare loop with {config}", partial(baseline.loop.run, config, seconds))
        for config in baseline.configs
    )
    return LoopFigures(throughput.rate, throughput.cpu_ms, single.batch_ms)


@contextmanager
def resumed(server: Running) -> Iterator[None]:
    """Let a stopped server run until the end of the `with` block."""
    server.signal(signal.SIGCONT)
    try:
        yield
    finally:
        server.signal(signal.SIGSTOP)


def measure_once(setup: Setup, server: Running, run: Run) -> tuple[Measurement, UsageDelta]:
    """Measure a server under one load; also return the CPU use meanwhile."""
    before = read_totals(server)
    done, delta = send_load(setup, server, run)
    latencies = done["latencies_ms"]
    errors = len(done["errors"]) + count_wrong(done["bodies"], setup.expected)
    if done["errors"]:
        print(f"{server.name}, {run.load}: {done['errors'][0]}", file=sys.stderr)
    measurement = Measurement(
        rate=len(latencies) / delta.seconds,
        p50=percentile(latencies, 0.5),
        p95=percentile(latencies, 0.95),
        p99=percentile(latencies, 0.99),
        errors=errors,
        cpu_ms=delta.cpu["server"] / max(len(latencies), 1) * 1e3,
        generator=delta.cpu["generator"] / delta.seconds,
        foreign=delta.foreign,
        server=means_between(before, read_totals(server)) if before else None,
    )
    return measurement, delta


def read_totals(server: Running) -> Totals:
    """Return the totals of the service's histograms; nothing for other servers."""
    return totals(server.get("/metrics")[1]) if server.server.metrics else {}


def send_load(setup: Setup, server: Running, run: Run) -> tuple[dict[str, Any], UsageDelta]:
    """Let the generator send requests; return its results and the CPU use meanwhile."""
    roots = {"server": server.pid, "generator": setup.generator.pid}
    job: dict[str, Any] = {"do": "closed", "concurrency": run.load.concurrency}
    if run.load.fraction:
        job = {"do": "open", "rate": run.rate, "seed": run.seed}
    requests = [str(file) for file in setup.requests[server.name]]
    times = {"warm_s": WARM_FRACTION * run.seconds, "seconds": run.seconds}
    setup.generator.send(port=server.port, requests=requests, **times, **job)
    setup.generator.receive("begin")
    before = usage(roots)
    setup.generator.receive("end")
    after = usage(roots)
    return setup.generator.receive("done"), usage_between(before, after)


def count_wrong(bodies: Mapping[str, str], expected: NDArray[Any]) -> int:
    """Return how many of the last responses to each request differ from the network's result."""
    decoded = ((int(number), b64decode(body)) for number, body in bodies.items())
    return sum(not is_right(body, expected[number]) for number, body in decoded)


def is_right(body: bytes, expected: Any) -> bool:
    """Return whether the first label of a response, or its mask, is the expected one."""
    if np.ndim(expected):
        mask = np.asarray(Image.open(BytesIO(body)))
        same_shape = mask.shape == expected.shape
        return same_shape and float((mask == expected).mean()) >= MIN_EQUAL_PIXELS
    label = re.search(rb"label (\d+)", body)
    return label is not None and int(label[1]) == int(expected)


def write_requests(server: Running, task: str, photos: Sequence[Path], folder: Path) -> list[Path]:
    """Write a request for each photograph to a file."""
    kind = server.server
    files = [folder / f"{server.port}-{photo.stem}.http" for photo in photos]
    for file, photo in zip(files, photos, strict=True):
        file.write_bytes(kind.request(kind.path.format(task=task), photo.read_bytes()))
    return files
