"""The heartbeats of a replica, and the probes of several replicas: any answers for all."""

import asyncio
import os
import time
from contextlib import asynccontextmanager

import pytest

from app.observability.metrics import Metrics
from app.replicas.heartbeats import SETTLE_S, HeartbeatTable
from app.replicas.reporter import Replica

pytestmark = pytest.mark.anyio


@pytest.fixture
def table():
    """Two replicas that have just been started; the first is the one under test."""
    table = HeartbeatTable(2)
    table.parent_beat(time.monotonic())
    for index in range(2):
        table.started(index, os.getpid(), time.monotonic(), again=False)
    return table


@pytest.fixture
def serve_first(serve, table, monkeypatch):
    """Run an app on fake engines as the first of two replicas, with a single replica's metrics."""
    monkeypatch.setattr("app.main.SharedMetrics", lambda models, *_: Metrics(models))

    @asynccontextmanager
    async def serving(*words, **options):
        replica = Replica(0, table, "unused")
        async with serve(*words, replica=replica, ready=False, **options) as running:
            yield running

    return serving


async def get(running, probe):
    response = await running.client.get(probe)
    return response.status_code, response.json()


def ready_for(table, index, seconds):
    table.beat(index, time.monotonic() - seconds, None, None)
    table.beat(index, time.monotonic(), None, None)


async def until(condition):
    while not condition():  # noqa: ASYNC110  # there is no event for the condition
        await asyncio.sleep(0.001)


def close_load(engine):
    engine.load_gate.clear()


async def test_the_status_is_loading_then_ready(serve_first, table):
    async with serve_first(close_load) as running:
        await until(lambda: "loading" in table.status(0, time.monotonic()).state)
        for engine in running.engines.values():
            engine.load_gate.set()
        await until(lambda: table.status(0, time.monotonic()).ready)
        assert "patchserve_ready 1.0" in await running.series()


async def test_gauges_are_updated_for_the_other_replicas(serve_first, table):
    async with serve_first() as running:
        metrics = running.state["metrics"]
        await until(lambda: metrics.ready._value.get() == 1)


async def test_a_broken_replica_reports_that_it_is_stuck(serve_first, table):
    async with serve_first() as running:
        await until(lambda: table.status(0, time.monotonic()).ready)
        for deployment in running.state["deployments"].values():
            await deployment.batcher.__aexit__(None, None, None)
        await until(lambda: table.status(0, time.monotonic()).stuck is not None)
        assert "has stopped" in table.status(0, time.monotonic()).state


async def test_a_replica_with_a_dead_lane_ends_without_being_killed(serve_first, table):
    async with serve_first() as running:
        await until(lambda: table.status(0, time.monotonic()).ready)
        lane = running.state["deployments"]["classify"].scheduler.wide
        lane.close()
        await asyncio.to_thread(lane._thread.join, 30)
        await until(lambda: not table.status(0, time.monotonic()).ready)
        status = table.status(0, time.monotonic())
        assert "has ended" in status.state
        assert status.stuck is None  # or the parent would kill it before it has responded


async def test_the_probes_of_a_loading_replica_report_a_ready_one(serve_first, table):
    async with serve_first(close_load) as running:
        assert (await get(running, "/livez"))[0] == 200
        for probe in ("/readyz", "/startupz"):
            status, body = await get(running, probe)
            assert status == 503
            assert body["reasons"][1] == "replica 1: starting"
        await until(lambda: "loading" in table.status(0, time.monotonic()).state)
        ready_for(table, 1, SETTLE_S)
        for probe in ("/livez", "/readyz", "/startupz"):
            status, body = await get(running, probe)
            assert (status, body["reasons"]) == (200, [])
            assert body["replicas"]["1"] == "ready"
            assert "loading" in body["replicas"]["0"]


async def test_the_service_is_not_live_when_all_replicas_are_stuck(serve_first, table):
    async with serve_first(close_load) as running:
        await until(lambda: "loading" in table.status(0, time.monotonic()).state)
        for index in range(2):
            table.beat(index, time.monotonic(), "stuck", "stuck")
        status, body = await get(running, "/livez")
    assert status == 503
    assert body["reasons"] == ["replica 0: stuck", "replica 1: stuck"]


async def test_the_service_is_not_live_without_heartbeats_of_the_parent(serve_first, table):
    async with serve_first() as running:
        table.parent_beat(time.monotonic() - 60)
        status, body = await get(running, "/livez")
    assert status == 503
    assert "parent" in body["reasons"][0]
