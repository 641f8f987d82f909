"""A replica's pulse, and the probes of several replicas: any of them answers for all."""

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
    """Run an app on fake engines as the first of two replicas, counting like a lone one."""
    monkeypatch.setattr("app.main.SharedMetrics", lambda models, *_: Metrics(models))

    @asynccontextmanager
    async def serving(*words, **options):
        replica = Replica(0, table, "unused")
        async with serve(*words, replica=replica, ready=False, **options) as running:
            yield running

    return serving


async def asked(running, probe):
    answer = await running.client.get(probe)
    return answer.status_code, answer.json()


def ready_for(table, index, seconds):
    table.beat(index, time.monotonic() - seconds, None, None)
    table.beat(index, time.monotonic(), None, None)


async def until(condition):
    while not condition():  # noqa: ASYNC110  # what it asks has no event
        await asyncio.sleep(0.001)


def close_load(engine):
    engine.load_gate.clear()


async def test_a_replica_says_how_far_it_is_and_that_it_is_ready(serve_first, table):
    async with serve_first(close_load) as running:
        await until(lambda: "loading" in table.status(0, time.monotonic()).state)
        for engine in running.engines.values():
            engine.load_gate.set()
        await until(lambda: table.status(0, time.monotonic()).ready)
        assert "patchserve_ready 1.0" in await running.series()


async def test_gauges_are_kept_up_for_the_others_to_read(serve_first, table):
    async with serve_first() as running:
        metrics = running.state["metrics"]
        await until(lambda: metrics.ready._value.get() == 1)


async def test_a_broken_replica_says_so(serve_first, table):
    async with serve_first() as running:
        await until(lambda: table.status(0, time.monotonic()).ready)
        for deployment in running.state["deployments"].values():
            await deployment.batcher.__aexit__(None, None, None)
        await until(lambda: table.status(0, time.monotonic()).stuck is not None)
        assert "has stopped" in table.status(0, time.monotonic()).state


async def test_a_replica_with_a_dead_lane_ends_by_itself(serve_first, table):
    async with serve_first() as running:
        await until(lambda: table.status(0, time.monotonic()).ready)
        lane = running.state["deployments"]["classify"].scheduler.wide
        lane.close()
        await asyncio.to_thread(lane._thread.join, 30)
        await until(lambda: not table.status(0, time.monotonic()).ready)
        standing = table.status(0, time.monotonic())
        assert "has ended" in standing.state
        assert standing.stuck is None  # or the parent would end it before it has answered


async def test_one_that_loads_tells_of_the_other_that_is_ready(serve_first, table):
    async with serve_first(close_load) as running:
        assert (await asked(running, "/livez"))[0] == 200
        for probe in ("/readyz", "/startupz"):
            status, body = await asked(running, probe)
            assert status == 503
            assert body["reasons"][1] == "replica 1: starting"
        await until(lambda: "loading" in table.status(0, time.monotonic()).state)
        ready_for(table, 1, SETTLE_S)
        for probe in ("/livez", "/readyz", "/startupz"):
            status, body = await asked(running, probe)
            assert (status, body["reasons"]) == (200, [])
            assert body["replicas"]["1"] == "ready"
            assert "loading" in body["replicas"]["0"]


async def test_when_all_are_stuck_only_a_restart_helps(serve_first, table):
    async with serve_first(close_load) as running:
        await until(lambda: "loading" in table.status(0, time.monotonic()).state)
        for index in range(2):
            table.beat(index, time.monotonic(), "stuck", "stuck")
        status, body = await asked(running, "/livez")
    assert status == 503
    assert body["reasons"] == ["replica 0: stuck", "replica 1: stuck"]


async def test_a_parent_that_does_not_answer_is_told(serve_first, table):
    async with serve_first() as running:
        table.parent_beat(time.monotonic() - 60)
        status, body = await asked(running, "/livez")
    assert status == 503
    assert "parent" in body["reasons"][0]
