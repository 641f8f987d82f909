"""Owns how the soak is shown: the verdict, and a table of the kinds of requests.

Knows nothing of how it was measured.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.common import machine
from bench.common.cpu import Share
from bench.common.resources import Held
from bench.serving.report import CORES
from bench.serving.slope import Slope, slope

STEEPEST = 0.5  # MB a minute: what the interval's upper end must stay below
SHOWN = 20  # of what was unexpected, and of the service's log


class Found(NamedTuple):
    """All that a soak has shown.

    Attributes:
        warm_up: minutes that do not count for the slope.
        capacity, rate: requests a second: that ask for work, at most; of all kinds, that came.
        samples: of the service; seconds from the begin.
        kinds: name, how often each status, p50 and p99 in milliseconds.
        seconds: see `bench.soaking.tally.Second`.
        examples: of what was unexpected.
        log: the service's, warnings and worse.
    """

    warm_up: float
    capacity: float
    rate: float
    samples: Sequence[Held]
    share: Share
    kinds: Sequence[tuple[str, Mapping[str, int], float, float]]
    seconds: Sequence[Sequence[float]]
    unexpected: int
    examples: Sequence[str]
    log: Sequence[str]

    @property
    def settled(self) -> list[Held]:
        """The samples after the warm-up."""
        return [one for one in self.samples if one.at >= self.warm_up * 60]

    @property
    def rise(self) -> Slope:
        """Of memory, in MB a minute."""
        return slope([one.at / 60 for one in self.settled], [one.rss for one in self.settled])

    @property
    def passed(self) -> bool:
        """Whether nothing grows and nothing was unexpected."""
        rise = self.rise
        return rise.low <= 0 <= rise.high < STEEPEST and not self.unexpected


def lines(found: Found) -> list[str]:
    """The whole page."""
    rise, first, last = found.rise, found.settled[0], found.settled[-1]
    seconds = found.share.seconds
    working = sum(second[1] for second in found.seconds)
    requests = sum(sum(counts.values()) for _, counts, _, _ in found.kinds)
    return [
        "# The soak",
        "",
        f"{machine.cpu()}; who asks is on the same machine. {seconds / 60:.1f} minutes of mixed "
        f"good and bad traffic to the bundled checkpoints: {found.rate:.1f} requests a second at "
        f"random times, {working / seconds:.1f} of which ask for work (it manages "
        f"{found.capacity:.1f}), and every half minute 320 at once. All kinds of requests are "
        "below, each with what was answered; whatever its kind does not admit counts as "
        "unexpected.",
        "",
        f"**{'Passed' if found.passed else 'Failed'}**: resident memory rises by {rise.value:+.3f} "
        f"MB/min, 95 % interval {rise.low:+.3f} to {rise.high:+.3f} (it must hold 0 and end "
        f"below {STEEPEST}); {found.unexpected} unexpected answers of {requests}.",
        "",
        f"The first {found.warm_up:g} minutes do not count for the slope. It is that of ordinary "
        "least squares through the means of 16 blocks of time; the interval is Student's, widened "
        "by what neighbouring blocks still have in common.",
        "",
        "| | after the warm-up | at the end | most |",
        "|---|---|---|---|",
        *(
            f"| {name} | {of(first):.0f} | {of(last):.0f} | {max(map(of, found.samples)):.0f} |"
            for name, of in HELD
        ),
        "",
        f"Cores: the service {found.share.cpu['service'] / seconds:.2f}, who asks "
        f"{found.share.cpu['traffic'] / seconds:.2f}, others {found.share.foreign * CORES:.2f}.",
        "",
        "| kind | answers | p50 ms | p99 ms |",
        "|---|---|---|---|",
        *(row(*kind) for kind in sorted(found.kinds)),
        "",
        *listed("Unexpected", found.examples),
        *listed("The service's log, warnings and worse", found.log),
        "![Memory, latency and errors over time](soak.png)",
        "",
    ]


HELD = (
    ("memory, MB", lambda one: one.rss),
    ("threads", lambda one: one.threads),
    ("open files", lambda one: one.files),
)


def row(name: str, counts: Mapping[str, int], p50: float, p99: float) -> str:
    """The line of a kind."""
    answers = ", ".join(f"{counts[status]} x {status}" for status in sorted(counts))
    taken = "| |" if math.isnan(p50) else f"| {p50:.1f} | {p99:.1f} |"
    return f"| {name} | {answers} {taken}"


def listed(title: str, what: Sequence[str]) -> list[str]:
    """Some of the lines under a title; nothing of none."""
    if not what:
        return []
    more = [f"- and {len(what) - SHOWN} more"] if len(what) > SHOWN else []
    return [f"{title}:", "", *(f"- `{line}`" for line in what[:SHOWN]), *more, ""]
