"""Owns how the figures of a burst are shown: one table, a column for each case.

Knows nothing of how they were measured.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from bench.common import machine
from bench.common.cpu import VOID
from bench.serving import burst, slope
from bench.serving.burst_cases import Found
from bench.serving.records import Record
from bench.serving.report import CORES
from bench.serving.summary import percentile

SETTLED_S = 10.0  # from the begin of the burst
EDGE_S = 5.0  # whose mean is the memory at the begin and at the end
PARTS = (0.5, 0.95, 0.99)


def lines(founds: Sequence[Found]) -> list[str]:
    """The whole page."""
    table = [
        f"| | {' | '.join(str(found.case) for found in founds)} | target |",
        f"|---|{'---|' * (len(founds) + 1)}",
    ]
    for name, figure, target in ROWS:
        cells = [figure(found) for found in founds]
        table.append(f"| {name} | {' | '.join(cells)} | {target} |")
    title = f"# {founds[0].case.factor:g} times the capacity"
    plot = "![Answers, latency and memory over time](overload.png)"
    return [title, "", heading(founds), "", *table, "", meaning(founds), "", plot, ""]


def heading(founds: Sequence[Found]) -> str:
    """What was done, and on which machine."""
    case = founds[0].case
    return (
        f"{machine.cpu()}; who asks is on the same machine, in a process of its own. First the "
        f"capacity is measured: {case.concurrency} callers who each wait for their answer. Then "
        f"few requests come, evenly; then, for {case.seconds:g} s, {case.factor:g} times the "
        "capacity at random times, whether others were answered or not; then few again; then the "
        f"capacity once more. What was measured with more than {VOID:.0%} of the machine in "
        "others' hands is measured again. The seconds behind a network are the service's "
        "REQUEST_TIMEOUT_S. Photographs of 640 x 480, 75 to 95 kB. Latencies count from the last "
        "byte of the request, unless it says otherwise."
    )


def meaning(founds: Sequence[Found]) -> str:
    """How the figures that need it are reckoned."""
    rates = ", ".join(f"{found.few:.1f}" for found in founds)
    return (
        "Goodput counts what was answered with 200 during the burst. The wait of a request "
        "admitted at the instant of a refusal is the latency of those admitted just before and "
        "just after it, in proportion to how near they are. `retry_after_ms` is a predicted wait "
        f"times 1 to 1.5, at random: within a factor of two is 0.5 to 2 once the mean, "
        f"{burst.JITTER:g}, is taken out; 0.5 to 3 is what some jitter would explain, 0.75 to 2 "
        f"what holds whatever it was. Latency is normal again from the first of {burst.CALM} "
        f"requests in a row that take at most {burst.SLOW:g} times what 95 % of those before the "
        f"burst did; they come at {rates} a second, which is how precisely that is known. Memory "
        "is the resident size of all processes of the service; its slope is given with the "
        "interval that holds it 19 times in 20."
    )


def goodput(found: Found) -> str:
    """Over the capacity; in brackets over what of it the generator's share of the cores leaves."""
    part = burst.goodput(found.records, found.times) / found.capacity
    left = 1 - found.share.cpu["generator"] / found.share.seconds / CORES
    return f"{part:.3f} ({part / left:.3f})"


def cores(found: Found) -> str:
    """What the service, the generator and others used of the processor during the burst."""
    used = [found.share.cpu[who] / found.share.seconds for who in ("service", "generator")]
    return f"{used[0]:.2f}, {used[1]:.3f}, {found.share.foreign * CORES:.2f}"


def percentiles(
    records: Callable[[Found], Sequence[Record]], of: Callable[[Record], float], found: Found
) -> str:
    """p50, p95 and p99 of a figure of some of the requests."""
    values = [of(one) for one in records(found)]
    return ", ".join(f"{percentile(values, part):.1f}" for part in PARTS)


def prediction(found: Found) -> str:
    """p5, p50 and p95 of what refusals said over what those waited who were admitted then."""
    ratios = burst.prediction(found.records, found.times).ratios
    return ", ".join(f"{percentile(ratios, part):.2f}" for part in (0.05, 0.5, 0.95))


def shares(found: Found) -> str:
    """How many of the refusals foretold the wait, by three readings."""
    said = burst.prediction(found.records, found.times)
    return f"{said.within:.1%}, {said.possible:.1%}, {said.certain:.1%}"


def missed(found: Found) -> str:
    """The share of the admitted that was answered 504."""
    late = sum(one.status == 504 for one in found.admitted)
    return f"{late / max(len(found.admitted), 1):.2%} of {len(found.admitted)}"


def whole(found: Found) -> str:
    """How many of the refusals are as they should be."""
    return f"{sum(map(burst.complete, found.refused))} of {len(found.refused)}"


def other(found: Found) -> str:
    """Whatever else became of requests, before and after the burst too."""
    counts = burst.others(found.records)
    outside = len(burst.refused(found.records)) - len(found.refused)
    counts["refused outside the burst"] = outside
    counts["no connection left"], counts["no answer"] = found.unsent, found.unanswered
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def lateness(found: Found) -> str:
    """How much later than intended requests of the burst were sent: p99 and the worst."""
    late = [(one.sent - one.due) * 1e3 for one in found.burst]
    return f"{percentile(late, 0.99):.1f}, {percentile(late, 1):.1f}"


def memory(found: Found) -> str:
    """What memory grew by from second 10 of the burst to its end, and its slope meanwhile."""
    begins, ends = found.times.begins + SETTLED_S, found.times.ends
    points = [(one.at, one.rss) for one in found.samples if begins <= one.at < ends]
    if ends - begins < 2 * EDGE_S:
        return "too short a burst"
    early = statistics.fmean(rss for at, rss in points if at < begins + EDGE_S)
    late = statistics.fmean(rss for at, rss in points if at >= ends - EDGE_S)
    rise = slope.slope(*zip(*points, strict=True))
    each = f"{rise.value * 60:.1f} ({rise.low * 60:.1f} to {rise.high * 60:.1f})"
    return f"{late:.0f}, {late - early:+.1f}, {each}"


def recovered(found: Found) -> str:
    """When latency was normal again, by both clocks."""
    took = burst.recovery(found.records, found.times)
    return f"{took.after_burst:.1f}, {took.backlog:.1f}, {took.after_backlog:.1f}"


ROWS: tuple[tuple[str, Callable[[Found], str], str], ...] = (
    ("capacity, images/s: before, after", lambda f: f"{f.capacity:.2f}, {f.again:.2f}", ""),
    (
        "requests in the burst, a second",
        lambda f: f"{len(f.burst)}, {len(f.burst) / f.case.seconds:.1f}",
        "",
    ),
    ("goodput over capacity (less what the generator took)", goodput, ">= 0.95"),
    ("cores: the service, the generator, others", cores, ""),
    ("requests were sent late by, ms: p99, worst", lateness, ""),
    ("refused: all complete (problem, `Retry-After` its ceiling)", whole, "all"),
    (
        "refused within, ms: p50, p95, p99",
        partial(percentiles, lambda f: f.refused, lambda one: one.latency_ms),
        "p99 <= 50",
    ),
    (
        "the same from the intended time",
        partial(percentiles, lambda f: f.refused, lambda one: one.from_due_ms),
        "",
    ),
    ("`retry_after_ms` over the wait: p5, p50, p95", prediction, ""),
    ("within a factor of two: mean jitter, some jitter, any jitter", shares, ""),
    (
        "admitted and answered, s: p50, p95, p99",
        partial(percentiles, lambda f: f.answered, lambda one: one.latency_ms / 1e3),
        "",
    ),
    ("admitted, then 504", missed, "<= 1 %"),
    ("other answers, lost connections", other, "none"),
    ("memory at the end, MB; from second 10; MB/min", memory, "flat"),
    (
        "before the burst, ms: p50, p95, p99",
        partial(percentiles, lambda f: f.before, lambda one: one.latency_ms),
        "",
    ),
    (
        "s to normal latency: after the burst; the backlog took; after that",
        recovered,
        "<= 2 after it",
    ),
)
