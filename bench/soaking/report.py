"""The result of bench.soak as Markdown: the verdict, and a table of the kinds of requests."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.common import machine
from bench.common.cpu import UsageDelta
from bench.common.resources import ResourceSample
from bench.serving.report import CORES
from bench.serving.slope import Slope, slope

MAX_RISE = 0.5  # MB per minute: upper limit for the slope's interval
SHOWN = 20  # maximum of unexpected responses, and of log lines, on the page


class SoakResult(NamedTuple):
    """The measurements of a soak.

    Attributes:
        warm_up: minutes that do not count for the slope.
        capacity: highest rate of requests for work, per second.
        rate: offered rate of all requests, per second.
        samples: resources of the service; times in seconds from the start.
        cpu: CPU use.
        kinds: name, count of each status, p50 and p99 in milliseconds.
        seconds: see `bench.soaking.tally.Second`.
        unexpected: number of unexpected responses.
        examples: some of them.
        log: warnings and errors in the service's log.
    """

    warm_up: float
    capacity: float
    rate: float
    samples: Sequence[ResourceSample]
    cpu: UsageDelta
    kinds: Sequence[tuple[str, Mapping[str, int], float, float]]
    seconds: Sequence[Sequence[float]]
    unexpected: int
    examples: Sequence[str]
    log: Sequence[str]

    @property
    def settled(self) -> list[ResourceSample]:
        """The samples after the warm-up."""
        return [one for one in self.samples if one.at >= self.warm_up * 60]

    @property
    def rise(self) -> Slope:
        """The slope of the memory after the warm-up, in MB per minute."""
        return slope([one.at / 60 for one in self.settled], [one.rss for one in self.settled])

    @property
    def passed(self) -> bool:
        """Whether memory is constant and all responses were expected."""
        rise = self.rise
        return rise.low <= 0 <= rise.high < MAX_RISE and not self.unexpected


def lines(result: SoakResult) -> list[str]:
    """Return the whole page."""
    rise, first, last = result.rise, result.settled[0], result.settled[-1]
    seconds = result.cpu.seconds
    work = sum(second[1] for second in result.seconds)
    requests = sum(sum(counts.values()) for _, counts, _, _ in result.kinds)
    return [
        "# Long run of mixed requests",
        "",
        f"{machine.cpu()}; the load generator runs on the same machine. {seconds / 60:.1f} minutes "
        f"of mixed valid and invalid requests to the bundled checkpoints: {result.rate:.1f} per "
        f"second at random times, of which {work / seconds:.1f} are requests for work (the "
        f"capacity is {result.capacity:.1f}), and 320 at once every half minute. The table has all "
        "kinds of requests with their responses; a response that its kind does not allow is "
        "unexpected.",
        "",
        f"**{'Passed' if result.passed else 'Failed'}**: resident memory grows by "
        f"{rise.value:+.3f} MB/min, 95 % interval {rise.low:+.3f} to {rise.high:+.3f} (it must "
        f"contain 0 and end below {MAX_RISE}); {result.unexpected} unexpected responses of "
        f"{requests}.",
        "",
        f"The first {result.warm_up:g} minutes do not count for the slope: ordinary least squares "
        "through the means of 16 blocks of time. The interval is Student's, widened for the "
        "correlation of neighboring blocks.",
        "",
        "| | after the warm-up | at the end | maximum |",
        "|---|---|---|---|",
        *(
            f"| {name} | {of(first):.0f} | {of(last):.0f} | {max(map(of, result.samples)):.0f} |"
            for name, of in RESOURCES
        ),
        "",
        f"Cores: the service {result.cpu.cpu['service'] / seconds:.2f}, the load generator "
        f"{result.cpu.cpu['traffic'] / seconds:.2f}, others {result.cpu.foreign * CORES:.2f}.",
        "",
        "| kind | responses | p50 ms | p99 ms |",
        "|---|---|---|---|",
        *(row(*kind) for kind in sorted(result.kinds)),
        "",
        *listed("Unexpected", result.examples),
        *listed("Warnings and errors in the service's log", result.log),
        "![Memory, latency and responses over time](soak.png)",
        "",
    ]


RESOURCES = (
    ("memory, MB", lambda one: one.rss),
    ("threads", lambda one: one.threads),
    ("open files", lambda one: one.files),
)


def row(name: str, counts: Mapping[str, int], p50: float, p99: float) -> str:
    """Return the line of a kind."""
    responses = ", ".join(f"{counts[status]} x {status}" for status in sorted(counts))
    latency = "| |" if math.isnan(p50) else f"| {p50:.1f} | {p99:.1f} |"
    return f"| {name} | {responses} {latency}"


def listed(title: str, items: Sequence[str]) -> list[str]:
    """Return the first items as a list with a title; nothing without items."""
    if not items:
        return []
    more = [f"- and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return [f"{title}:", "", *(f"- `{line}`" for line in items[:SHOWN]), *more, ""]
