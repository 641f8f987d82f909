"""Totals of the image requests, read from the metrics."""

import asyncio
from math import inf

import pytest

from app.observability import traffic
from app.observability.metrics import Metrics
from app.observability.traffic import RecentTraffic, read_traffic


def test_the_totals_are_those_of_the_given_routes_over_all_models():
    metrics = Metrics(["a", "b"])
    metrics.count_request("/classify", "POST", 200, 0.004)
    metrics.count_request("/segment", "POST", 503, 0.0001)
    metrics.count_request("/livez", "GET", 200, 0.0001)
    for model, size in (("a", 3), ("b", 5)):
        metrics.buffer.record(size, metrics.batch_size, model)
    metrics.queue_depth.labels("a").set(2)
    metrics.queue_depth.labels("b").set(1)
    metrics.requests_in_flight = 4
    traffic = read_traffic(metrics.families(), {"/classify", "/segment"})
    assert (traffic.requests, traffic.errors) == (2, 1)
    assert (traffic.batches, traffic.batched_images) == (2, 8)
    assert (traffic.queue_depth, traffic.in_flight) == (3, 4)
    assert (traffic.latency[0.0005], traffic.latency[0.003]) == (1, 1)
    assert (traffic.latency[0.005], traffic.latency[inf]) == (2, 2)


def test_before_the_first_request_all_totals_are_zero():
    traffic = read_traffic(Metrics(["a"]).families(), {"/classify"})
    assert (traffic.requests, traffic.errors, traffic.batches, traffic.queue_depth) == (0, 0, 0, 0)


@pytest.mark.anyio
async def test_clients_that_ask_at_the_same_time_share_a_reading(monkeypatch):
    readings = []
    recent = RecentTraffic(lambda: readings.append(1) or [])
    first = await asyncio.gather(*(recent.totals(()) for _ in range(5)))
    assert (len(readings), len({read_at for read_at, _ in first})) == (1, 1)
    monkeypatch.setattr(traffic, "MAX_AGE_S", 0.0)
    later, _ = await recent.totals(())
    assert len(readings) == 2
    assert later > first[0][0]
