"""Measures what one client loses while another one floods the service with valid requests.

    python -m bench.fairness [--network NAME] [--rounds N] [--seconds S] [--out FOLDER]

The second client sends requests at random times, at a rate that one core could process. Its
latency is measured alone, and while the first client keeps 256 requests in flight. The clients are
told apart by their API keys, and then by their addresses.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.common import checkpoints
from bench.common.children import Child, child
from bench.common.machine import cpu
from bench.common.sigterm import exit_on_sigterm
from bench.serving import photographs
from bench.serving.http_requests import raw_request
from bench.serving.servers import OURS, Site, free_port, launched, ours, untuned

RESULTS = Path(__file__).parent / "results" / "fairness.md"
CALLERS = 256  # of the first client
RATE = 20.0  # requests per second of the second client
WARM_S = 2.0
KEYS = ("first-client-0000000", "second-client-000000")
ADDRESSES = ("127.0.0.1", "127.0.0.2")
BY = ("key", "address")


class Figures(NamedTuple):
    """The second client in one measurement: share of requests with 200, and latencies in ms."""

    goodput: float
    latencies_ms: list[float]


class Result(NamedTuple):
    """All rounds with one way to tell the clients apart.

    Attributes:
        by: `key` or `address`.
        alone: the second client alone.
        beside: the second client while the first one floods the service.
        flood: responses per second of the first client.
    """

    by: str
    alone: list[Figures]
    beside: list[Figures]
    flood: list[float]

    def row(self) -> str:
        """The row of the table."""
        goodput = sum(r.goodput for r in self.beside) / sum(r.goodput for r in self.alone)
        alone, beside = percentiles(self.alone), percentiles(self.beside)
        ratios = [one / other for one, other in zip(beside, alone, strict=True)]
        cells = [
            self.by,
            f"{goodput:.3f}",
            f"{alone[0]:.1f} / {alone[1]:.1f}",
            f"{beside[0]:.1f} / {beside[1]:.1f}",
            f"{ratios[0]:.2f} / {ratios[1]:.2f}",
            f"{statistics.mean(self.flood):.0f}",
        ]
        return f"| {' | '.join(cells)} |"


def percentiles(figures: Sequence[Figures]) -> tuple[float, float]:
    """Median and 99th percentile of the latencies of all rounds, in ms."""
    cuts = statistics.quantiles([ms for each in figures for ms in each.latencies_ms], n=100)
    return cuts[49], cuts[98]


def with_key(request: bytes, key: str) -> bytes:
    """Add an API key to a request."""
    return request.replace(b"\r\nHost:", f"\r\nX-API-Key: {key}\r\nHost:".encode(), 1)


class Setup(NamedTuple):
    """The load generators of both clients, and the jobs that are the same in all rounds."""

    first: Child
    second: Child
    jobs: Sequence[dict[str, Any]]  # of the first client and of the second
    seconds: float


def calm(setup: Setup, seed: int) -> Figures:
    """Measure the second client."""
    job = {"rate": RATE, "warm_s": WARM_S, "seconds": setup.seconds, "seed": seed}
    setup.second.send(do="open", **job, **setup.jobs[1])
    for event in ("begin", "end"):
        setup.second.receive(event)
    done = setup.second.receive("done")
    good, bad = len(done["latencies_ms"]), len(done["errors"])
    return Figures(good / (good + bad), done["latencies_ms"])


def flooded(setup: Setup, seed: int) -> tuple[Figures, float]:
    """Measure the second client during the flood; also the responses per second of the first."""
    seconds = setup.seconds + 2 * WARM_S
    job = {"concurrency": CALLERS, "warm_s": WARM_S, "seconds": seconds}
    setup.first.send(do="closed", **job, **setup.jobs[0])
    setup.first.receive("begin")
    figures = calm(setup, seed)
    setup.first.receive("end")
    done = setup.first.receive("done")
    return figures, len(done["latencies_ms"]) / seconds


def write_jobs(by: str, task: str, port: int, folder: Path) -> list[dict[str, Any]]:
    """Write the request files of both clients; return the job of each client."""
    photos = [photo.read_bytes() for photo in photographs.write(folder)]
    jobs = []
    for key, address in zip(KEYS, ADDRESSES, strict=True):
        requests = [raw_request(f"/{task}", photo) for photo in photos]
        if by == "key":
            requests, address = [with_key(each, key) for each in requests], ADDRESSES[0]
        files = [folder / f"{key}-{number}.http" for number in range(len(requests))]
        for file, request in zip(files, requests, strict=True):
            file.write_bytes(request)
        jobs.append({"port": port, "requests": list(map(str, files)), "source": address})
    return jobs


def measured(by: str, network: str, rounds: int, seconds: float, folder: Path) -> Result:
    """Measure all rounds with one way to tell the clients apart."""
    task = checkpoints.task_of(network)
    checkpoints.write(network, folder, smoothly=True)
    port = free_port()
    jobs = write_jobs(by, task, port, folder)
    environment = untuned() | ({"PATCHSERVE_API_KEYS": ",".join(KEYS)} if by == "key" else {})
    command = ours(Site(folder, task, "torch", port))
    with (
        launched(OURS, command, port, folder / "servers.log", env=environment),
        child("bench.serving.generator", env=untuned()) as first,
        child("bench.serving.generator", env=untuned()) as second,
    ):
        setup, result = Setup(first, second, jobs, seconds), Result(by, [], [], [])
        for number in range(rounds):
            result.alone.append(calm(setup, seed=number))
            figures, rate = flooded(setup, seed=number)
            result.beside.append(figures)
            result.flood.append(rate)
        return result


def table(network: str, results: Sequence[Result], rounds: int, seconds: float) -> str:
    """The results as Markdown."""
    lines = [
        "# One client beside another one",
        "",
        f"{cpu()}; the load generators run on the same machine. Network {network}, {rounds} rounds "
        f"of {seconds:g} s. The first client keeps {CALLERS} requests in flight, the second one "
        f"sends {RATE:g} per second. Goodput is the share of the second client's requests that got "
        "200 during the flood, divided by the same share without the first client. Latencies are "
        "of the second client, median / 99th percentile.",
        "",
        "| by | goodput | alone, ms | during the flood, ms | ratio | first client, images/s |",
        "|---|---|---|---|---|---|",
        *(result.row() for result in results),
        "",
    ]
    return "\n".join(lines)


@exit_on_sigterm()
def main(arguments: Sequence[str] = ()) -> None:
    """Print the figures and write them."""
    parser = argparse.ArgumentParser(prog="bench.fairness")
    parser.add_argument("--network", choices=("T", "ViT-Ti/16", "ViT-B/16"), default="T")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=RESULTS.parent)
    given = parser.parse_args(arguments)
    results = []
    for by in BY:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measured(by, given.network, given.rounds, given.seconds, Path(folder)))
    text = table(given.network, results, given.rounds, given.seconds)
    print(text)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / RESULTS.name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
