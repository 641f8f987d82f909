"""The task of a replica that writes its heartbeat and the gauges that other replicas expose."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app.batching.deployment import Deployment
from app.core.background import background
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics
from app.replicas.heartbeats import BEAT_S, HeartbeatTable


@dataclass(frozen=True)
class Replica:
    """Which of several replicas this process is.

    Args:
        index: the number of the replica, which is its row in the table.
        table: the heartbeats of all replicas.
        directory: the folder with the metrics of all replicas.
        gpu_share: the part of the memory of its GPU that the replica may use.
    """

    index: int
    table: HeartbeatTable
    directory: str
    gpu_share: float = 1.0


@asynccontextmanager
async def reporting(
    lifespan: AbstractAsyncContextManager[Mapping[str, Any]], replica: Replica, metrics: Metrics
) -> AsyncIterator[dict[str, Any]]:
    """The lifespan of a replica's app: the given one, with heartbeats while it runs."""
    async with lifespan as state:
        work = report(replica, state["deployments"].values(), state["shutdown"], metrics)
        async with background(work):
            yield {**state, "replicas": replica.table}


async def report(
    replica: Replica, deployments: Collection[Deployment], shutdown: Shutdown, metrics: Metrics
) -> None:
    """Write a heartbeat every `BEAT_S`; if the heartbeats stop, the event loop is stuck."""
    while True:
        reasons = [shutdown.reason_unready, *(d.reason_unready for d in deployments)]
        unready = [reason for reason in reasons if reason is not None]
        stuck = [reason for d in deployments if (reason := d.reason_stuck) and not shutdown.broken]
        metrics.ready.set(not unready)
        metrics.draining.set(shutdown.begun)
        for deployment in deployments:
            deployment.refresh()
        replica.table.beat(replica.index, time.monotonic(), _joined(unready), _joined(stuck))
        await asyncio.sleep(BEAT_S)


def _joined(reasons: list[str]) -> str | None:
    return "; ".join(reasons) or None
