"""Totals of the image requests since the start, read from the metrics."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from prometheus_client import Metric

DURATION = "patchserve_http_request_duration_seconds"
RESPONSES = "patchserve_http_requests"
BATCH_SIZE = "patchserve_batch_size"
QUEUE_DEPTH = "patchserve_queue_depth"
IN_FLIGHT = "patchserve_http_requests_in_flight"
MAX_AGE_S = 0.25  # of totals: to read all metrics takes 10 ms, and more with many replicas


class Traffic(NamedTuple):
    """Totals since the start, of all replicas.

    Attributes:
        requests: responses of the image routes.
        errors: how many of them had a status of 400 or above.
        latency: responses that took at most so many seconds, by this bound; the last is infinite.
        batches: batches of all models.
        batched_images: images in them.
        queue_depth: images that wait now.
        in_flight: requests without a complete response now, on all routes.
    """

    requests: int
    errors: int
    latency: dict[float, int]
    batches: int
    batched_images: int
    queue_depth: int
    in_flight: int


def read_traffic(families: Iterable[Metric], routes: Collection[str]) -> Traffic:
    """Sum the metrics over models and over the given routes."""
    totals: defaultdict[str, float] = defaultdict(float)
    latency: defaultdict[float, int] = defaultdict(int)
    for family in families:
        if family.name not in (DURATION, RESPONSES, BATCH_SIZE, QUEUE_DEPTH, IN_FLIGHT):
            continue
        for name, labels, value, *_ in family.samples:
            if "route" in labels and labels["route"] not in routes:
                continue
            totals[name] += value
            if name == f"{RESPONSES}_total" and int(labels["code"]) >= 400:
                totals["errors"] += value
            if name == f"{DURATION}_bucket":
                latency[float(labels["le"])] += int(value)
    return Traffic(
        requests=int(totals[f"{RESPONSES}_total"]),
        errors=int(totals["errors"]),
        latency=dict(sorted(latency.items())),
        batches=int(totals[f"{BATCH_SIZE}_count"]),
        batched_images=int(totals[f"{BATCH_SIZE}_sum"]),
        queue_depth=int(totals[QUEUE_DEPTH]),
        in_flight=int(totals[IN_FLIGHT]),
    )


class RecentTraffic:
    """The traffic, read once for all clients that ask for it at about the same time.

    Args:
        families: reads all metrics.
    """

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families
        self._began = 0.0
        self._reading: asyncio.Future[Traffic] | None = None

    async def totals(self, routes: Collection[str]) -> tuple[float, Traffic]:
        """The totals of some routes, always the same ones, and when they were read (monotonic)."""
        now = time.monotonic()
        if self._reading is None or (self._reading.done() and now - self._began > MAX_AGE_S):
            self._began = now
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read, routes))
        return self._began, await asyncio.shield(self._reading)

    def _read(self, routes: Collection[str]) -> Traffic:
        return read_traffic(self._families(), routes)
