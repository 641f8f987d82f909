"""Owns the measuring of what a model's batches cost on the lanes of a device, before it serves.

Knows nothing of queues, nor of what follows from the costs.
"""

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
    """Measure the wide lane, then the narrow ones: all at once, as they will be at work.

    A runtime with threads of its own has no use for narrow lanes.

    Args:
        engine: has loaded its model.
        scheduler: whose lanes.
        info: of the model.
        max_batch_size: the largest batch that is tried.
        budget_s: the seconds that all of it may take.
    """
    narrow = scheduler.narrow if info.runtime == "torch" else ()
    work = partial(engine.warm_up, max_batch_size, budget_s / (2 if narrow else 1))
    wide = await scheduler.wide.run(work, watched=False)
    tables = await asyncio.gather(*(lane.run(work, watched=False) for lane in narrow))
    return CostTable(wide, slowest_of(tables), max(1, len(narrow)))


def slowest_of(tables: Sequence[Table]) -> Table:
    """What a batch takes on the slowest lane, of the sizes that all of them measured."""
    common = set.intersection(*map(set, tables)) if tables else set()
    return {size: max(table[size] for table in tables) for size in sorted(common)}
