"""Measures the batch costs of a model on the lanes of a device before the model serves."""

import asyncio
from collections.abc import Sequence
from functools import partial

from app.batching.costs import CostTable, Table
from app.batching.scheduler import DeviceScheduler
from app.engine.interface import InferenceEngine, ModelInfo
from app.engine.lanes import Lane


async def measure(
    engine: InferenceEngine,
    scheduler: DeviceScheduler[Lane],
    info: ModelInfo,
    max_batch_size: int,
    budget_s: float,
) -> CostTable:
    """Measure the wide lane, then all narrow lanes at the same time, as they will run.

    A runtime with threads of its own does not use narrow lanes.

    Args:
        engine: an engine whose model is loaded.
        scheduler: has the lanes.
        info: of the model.
        max_batch_size: the largest batch to measure.
        budget_s: time limit of the whole measurement, in seconds.
    """
    narrow = scheduler.narrow if info.runtime == "torch" else ()
    work = partial(engine.warm_up, max_batch_size, budget_s / (2 if narrow else 1))
    wide = await scheduler.wide.run(work, watched=False)
    tables = await asyncio.gather(*(lane.run(work, watched=False) for lane in narrow))
    return CostTable(wide, slowest_of(tables), max(1, len(narrow)))


def slowest_of(tables: Sequence[Table]) -> Table:
    """Seconds on the slowest lane, for the batch sizes that all lanes measured."""
    common = set.intersection(*map(set, tables)) if tables else set()
    return {size: max(table[size] for table in tables) for size in sorted(common)}
