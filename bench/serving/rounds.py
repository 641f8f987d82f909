"""Owns the rounds: everyone takes a turn, the bare loop too, and nobody's turn counts when others
used the machine.

Knows nothing of what is made of the figures.
"""

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
from bench.common.cpu import Share, between, usage
from bench.common.idle import undisturbed
from bench.serving.baseline import RawLoop, Way
from bench.serving.histograms import Totals, inside, totals
from bench.serving.servers import OURS, SERVERS, Running
from bench.serving.summary import Limit, Load, Round, Turn, percentile

WARM = 0.2  # as long again as such a part of a turn, before anything counts
WARM_UP_S = 2.0  # of each server, before the first round
CROWD = Load(concurrency=32)
ALIKE = 0.999  # of a mask's pixels: batches of other sizes round differently


class Field(NamedTuple):
    """Who takes part, and what the answers should be: label indices or masks, by photograph."""

    servers: Sequence[Running]
    requests: Mapping[str, Sequence[Path]]
    expected: NDArray[Any]
    generator: Child
    loop: RawLoop
    ways: tuple[Way, Way]


class Asking(NamedTuple):
    """How a server is asked in one turn: an open loop at a rate, with times drawn from a seed."""

    load: Load
    seconds: float
    rate: float = 0.0
    seed: int = 0


class Plan(NamedTuple):
    """How they are asked, for how long, how often."""

    loads: Sequence[Load]
    seconds: float
    rounds: int


def measure(field: Field, plan: Plan) -> Iterator[Round]:
    """Round after round, in another order each time."""
    order = random.Random(0)  # noqa: S311  # not a secret
    for server in field.servers:
        with awake(server):
            ask(field, server, Asking(CROWD, WARM_UP_S))
    everyone = [*field.servers, None]  # None is the loop
    for number in range(plan.rounds):
        turns: dict[tuple[str, Load], Turn] = {}
        limits = []
        for server in order.sample(everyone, len(everyone)):
            if server is None:
                limits.append(raw(field, plan.seconds))
                continue
            with awake(server):
                turns |= series(field, server, plan, number)
        yield Round(limits[0], turns)


def series(field: Field, server: Running, plan: Plan, seed: int) -> dict[tuple[str, Load], Turn]:
    """One server's turns in a round; open loops last, at parts of what it did when crowded."""
    turns: dict[tuple[str, Load], Turn] = {}
    for load in sorted(plan.loads, key=lambda load: load.part):
        capacity = max((turn.rate for turn in turns.values()), default=0.0)
        how = Asking(load, plan.seconds, load.part * capacity, seed)
        turns[server.name, load] = undisturbed(
            f"{server.name}, {load}", partial(turn, field, server, how)
        )
    return turns


def raw(field: Field, seconds: float) -> Limit:
    """The bare loop's turn."""
    crowded, alone = (
        undisturbed(f"the loop in {way}", partial(field.loop.run, way, seconds))
        for way in field.ways
    )
    return Limit(crowded.rate, crowded.cpu_ms, alone.batch_ms)


@contextmanager
def awake(server: Running) -> Iterator[None]:
    """The server may run for as long as the `with` lasts."""
    server.signal(signal.SIGCONT)
    try:
        yield
    finally:
        server.signal(signal.SIGSTOP)


def turn(field: Field, server: Running, asking: Asking) -> tuple[Turn, Share]:
    """One server's turn under one load."""
    before = said(server)
    done, share = ask(field, server, asking)
    taken = done["latencies_ms"]
    errors = len(done["errors"]) + wrong(done["bodies"], field.expected)
    if done["errors"]:
        print(f"{server.name}, {asking.load}: {done['errors'][0]}", file=sys.stderr)
    found = Turn(
        rate=len(taken) / share.seconds,
        p50=percentile(taken, 0.5),
        p95=percentile(taken, 0.95),
        p99=percentile(taken, 0.99),
        errors=errors,
        cpu_ms=share.cpu["server"] / max(len(taken), 1) * 1e3,
        generator=share.cpu["generator"] / share.seconds,
        foreign=share.foreign,
        inside=inside(before, said(server)) if before else None,
    )
    return found, share


def said(server: Running) -> Totals:
    """What our service has counted until now; nothing of the others."""
    return totals(server.get("/metrics")[1]) if server.name == OURS else {}


def ask(field: Field, server: Running, asking: Asking) -> tuple[dict[str, Any], Share]:
    """Let the generator ask a server; how it went, and what the machine did meanwhile."""
    roots = {"server": server.pid, "generator": field.generator.pid}
    how: dict[str, Any] = {"do": "closed", "concurrency": asking.load.concurrency}
    if asking.load.part:
        how = {"do": "open", "rate": asking.rate, "seed": asking.seed}
    requests = [str(file) for file in field.requests[server.name]]
    span = {"warm_s": WARM * asking.seconds, "seconds": asking.seconds}
    field.generator.ask(port=server.port, requests=requests, **span, **how)
    field.generator.hear("begin")
    before = usage(roots)
    field.generator.hear("end")
    after = usage(roots)
    return field.generator.hear("done"), between(before, after)


def wrong(bodies: Mapping[str, str], expected: NDArray[Any]) -> int:
    """How many of the answers, the last one to each request, are not what the network says."""
    answers = ((int(number), b64decode(body)) for number, body in bodies.items())
    return sum(not right(body, expected[number]) for number, body in answers)


def right(body: bytes, expected: Any) -> bool:
    """Whether the first label in an answer is the expected one, or its mask the expected mask."""
    if np.ndim(expected):
        mask = np.asarray(Image.open(BytesIO(body)))
        return mask.shape == expected.shape and float((mask == expected).mean()) >= ALIKE
    label = re.search(rb"label (\d+)", body)
    return label is not None and int(label[1]) == int(expected)


def write_requests(server: Running, task: str, photos: Sequence[Path], folder: Path) -> list[Path]:
    """The requests of a server about the photographs, each in a file."""
    how = SERVERS[server.name]
    files = [folder / f"{server.port}-{photo.stem}.http" for photo in photos]
    for file, photo in zip(files, photos, strict=True):
        file.write_bytes(how.request(how.path.format(task=task), photo.read_bytes()))
    return files
