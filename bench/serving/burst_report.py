"""The results of bench.overload as one Markdown table with a column for each case."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from bench.common import machine
from bench.common.cpu import MAX_FOREIGN_SHARE
from bench.serving import burst, slope
from bench.serving.burst_cases import CaseResult
from bench.serving.records import Record
from bench.serving.report import CORES
from bench.serving.summary import percentile

SETTLED_S = 10.0  # after the start of the burst: memory counts from here
EDGE_S = 5.0  # memory at the start and at the end is the mean over this time
PERCENTILES = (0.5, 0.95, 0.99)


def lines(results: Sequence[CaseResult]) -> list[str]:
    """Return the whole page."""
    table = [
        f"| | {' | '.join(str(result.case) for result in results)} | target |",
        f"|---|{'---|' * (len(results) + 1)}",
    ]
    for name, figure, target in ROWS:
        cells = [figure(result) for result in results]
        table.append(f"| {name} | {' | '.join(cells)} | {target} |")
    title = f"# {results[0].case.factor:g} times the capacity"
    plot = "![Responses, latency and memory over time](overload.png)"
    return [title, "", heading(results), "", *table, "", notes(results), "", plot, ""]


def heading(results: Sequence[CaseResult]) -> str:
    """Return the introduction: the machine, and the phases of the run."""
    case = results[0].case
    return (
        f"{machine.cpu()}; the load generator is a process on the same machine. First the "
        "capacity is measured in a closed loop. Then some requests "
        f"are sent, evenly spaced; then, for {case.seconds:g} s, {case.factor:g} times the "
        "capacity at random times, whether earlier requests were answered or not; then some again; "
        "at last the capacity once more. A measurement is repeated if other processes used more "
        f"than {MAX_FOREIGN_SHARE:.0%} of the machine. The seconds behind a network are the "
        "service's `--request-timeout-s`. Photographs of 640 x 480, 75 to 95 kB. Latencies count "
        "from the last byte of the request, unless the row says otherwise."
    )


def notes(results: Sequence[CaseResult]) -> str:
    """Return how the figures are computed."""
    rates = ", ".join(f"{result.calm_rate:.1f}" for result in results)
    return (
        "Goodput counts the responses with 200 during the burst. The real wait at a refusal is "
        "interpolated between the latencies of the requests accepted directly before and after it. "
        "`retry_after_ms` is a predicted wait times a random factor (jitter) from 1 to 1.5. It is "
        f"within a factor of two of the real wait if the ratio is 0.5 to 2 after division by the "
        f"mean jitter {burst.JITTER:g}; some jitter explains ratios from 0.5 to 3, and any jitter "
        "explains ratios from 0.75 to 2. Latency is normal from the first of "
        f"{burst.CALM} consecutive requests that take at most {burst.SLOW:g} times the 95th "
        f"percentile before the burst; they are sent at {rates} per second, which limits the "
        "precision. Memory is the resident size of all processes of the service; its slope has a "
        "95 % interval."
    )


def goodput(result: CaseResult) -> str:
    """Return goodput over capacity; in brackets over the capacity that the generator leaves."""
    ratio = burst.goodput(result.records, result.times) / result.capacity
    left = 1 - result.cpu.cpu["generator"] / result.cpu.seconds / CORES
    return f"{ratio:.3f} ({ratio / left:.3f})"


def cores(result: CaseResult) -> str:
    """Return the cores that the service, the generator and others used during the burst."""
    service, generator = (
        result.cpu.cpu[name] / result.cpu.seconds for name in ("service", "generator")
    )
    return f"{service:.2f}, {generator:.3f}, {result.cpu.foreign * CORES:.2f}"


def percentiles(
    records: Callable[[CaseResult], Sequence[Record]],
    figure: Callable[[Record], float],
    result: CaseResult,
) -> str:
    """Return p50, p95 and p99 of a figure of some of the requests."""
    values = [figure(one) for one in records(result)]
    return ", ".join(f"{percentile(values, fraction):.1f}" for fraction in PERCENTILES)


def prediction(result: CaseResult) -> str:
    """Return p5, p50 and p95 of the predicted waits over the real waits."""
    ratios = burst.prediction(result.records, result.times).ratios
    return ", ".join(f"{percentile(ratios, fraction):.2f}" for fraction in (0.05, 0.5, 0.95))


def correct_predictions(result: CaseResult) -> str:
    """Return the fractions of correct predictions, by the three definitions."""
    prediction = burst.prediction(result.records, result.times)
    return f"{prediction.within:.1%}, {prediction.possible:.1%}, {prediction.certain:.1%}"


def missed(result: CaseResult) -> str:
    """Return the fraction of the accepted requests that missed their deadline."""
    late = sum(one.status == 504 for one in result.accepted)
    return f"{late / max(len(result.accepted), 1):.2%} of {len(result.accepted)}"


def complete(result: CaseResult) -> str:
    """Return how many of the refusals are complete."""
    return f"{sum(map(burst.complete, result.refused))} of {len(result.refused)}"


def other(result: CaseResult) -> str:
    """Return all other outcomes, also before and after the burst."""
    counts = burst.others(result.records)
    outside = len(burst.refused(result.records)) - len(result.refused)
    counts["refused outside the burst"] = outside
    counts["without a free connection"] = result.unsent
    counts["without a response"] = result.unanswered
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def lateness(result: CaseResult) -> str:
    """Return how late requests of the burst were sent: p99 and maximum."""
    late = [(one.sent - one.due) * 1e3 for one in result.burst]
    return f"{percentile(late, 0.99):.1f}, {percentile(late, 1):.1f}"


def memory(result: CaseResult) -> str:
    """Return memory at the end, its growth from second 10 of the burst on, and its slope."""
    begins, ends = result.times.begins + SETTLED_S, result.times.ends
    points = [(one.at, one.rss) for one in result.samples if begins <= one.at < ends]
    if ends - begins < 2 * EDGE_S:
        return "the burst is too short"
    early = statistics.fmean(rss for at, rss in points if at < begins + EDGE_S)
    late = statistics.fmean(rss for at, rss in points if at >= ends - EDGE_S)
    rise = slope.slope(*zip(*points, strict=True))
    per_minute = f"{rise.value * 60:.1f} ({rise.low * 60:.1f} to {rise.high * 60:.1f})"
    return f"{late:.0f}, {late - early:+.1f}, {per_minute}"


def recovered(result: CaseResult) -> str:
    """Return when latency was normal again."""
    took = burst.recovery(result.records, result.times)
    return f"{took.after_burst:.1f}, {took.backlog:.1f}, {took.after_backlog:.1f}"


ROWS: tuple[tuple[str, Callable[[CaseResult], str], str], ...] = (
    ("clients of the closed loop", lambda result: str(result.case.concurrency), ""),
    (
        "capacity, images/s: before, after",
        lambda result: f"{result.capacity:.2f}, {result.capacity_after:.2f}",
        "",
    ),
    (
        "requests in the burst: all, per second",
        lambda result: f"{len(result.burst)}, {len(result.burst) / result.case.seconds:.1f}",
        "",
    ),
    ("goodput over capacity (over the capacity that the generator leaves)", goodput, ">= 0.95"),
    ("cores: service, generator, others", cores, ""),
    ("requests sent late by, ms: p99, maximum", lateness, ""),
    ("complete refusals (problem, `Retry-After` the ceiling of its value)", complete, "all"),
    (
        "time to a refusal, ms: p50, p95, p99",
        partial(percentiles, lambda result: result.refused, lambda one: one.latency_ms),
        "p99 <= 50",
    ),
    (
        "the same from the intended time",
        partial(percentiles, lambda result: result.refused, lambda one: one.from_due_ms),
        "",
    ),
    ("`retry_after_ms` over the real wait: p5, p50, p95", prediction, ""),
    ("within a factor of two: mean jitter, some jitter, any jitter", correct_predictions, ""),
    (
        "accepted and answered, s: p50, p95, p99",
        partial(percentiles, lambda result: result.answered, lambda one: one.latency_ms / 1e3),
        "",
    ),
    ("accepted, then 504", missed, "<= 1 %"),
    ("other responses, lost connections", other, "none"),
    ("memory at the end, MB; growth from second 10; MB/min", memory, "flat"),
    (
        "latency before the burst, ms: p50, p95, p99",
        partial(percentiles, lambda result: result.before, lambda one: one.latency_ms),
        "",
    ),
    (
        "s to normal latency: after the burst; length of the backlog; after the backlog",
        recovered,
        "<= 2 after the backlog",
    ),
)
