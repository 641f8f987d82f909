"""Measures the batch costs of a model on the lanes of a device before the model serves."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import get_args

import numpy as np

from app.batching.costs import CostTable, Table
from app.batching.scheduler import DeviceScheduler
from app.core.types import Method
from app.engine.interface import (
    DEFAULT_INPUT_SIZE,
    BatchResult,
    ExplainInput,
    InferenceEngine,
    ModelInfo,
)
from app.engine.lanes import Lane

SLOW_NETWORK_S = 0.1  # for one image on one core


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


async def measure_explanations(
    engine: InferenceEngine, scheduler: DeviceScheduler[Lane], info: ModelInfo, costs: CostTable
) -> Mapping[Method, float]:
    """Measure each explanation of one image, on all lanes that the model uses at the same time.

    Explanations run more Python than the network, so lanes slow each other down. They are not
    measured for a slow network, whose explanations take seconds and much memory.

    Returns:
        The seconds besides the network by method, on the slowest lane.
    """
    seconds: dict[Method, float] = {}
    lanes, network_s = (
        (scheduler.narrow, costs.narrow[1]) if costs.narrow else ((scheduler.wide,), costs.wide[1])
    )
    if info.task != "classify" or network_s > SLOW_NETWORK_S:
        return seconds
    height, width = info.preprocessing.input_size or DEFAULT_INPUT_SIZE
    pixels = np.zeros((height, width, 3), np.uint8)
    for method in get_args(Method):
        work = partial(engine.run, [ExplainInput(pixels, 1, method)])
        for _ in range(2):  # the first run of a method also allocates and initializes
            runs = [lane.run(work, watched=False) for lane in lanes]
            results = await asyncio.gather(*runs, return_exceptions=True)
        taken = [sum(each.stages.values()) for each in results if isinstance(each, BatchResult)]
        if taken:  # a network without attention cannot be explained
            seconds[method] = max(0.0, max(taken) - network_s)
    return seconds


def slowest_of(tables: Sequence[Table]) -> Table:
    """Seconds on the slowest lane, for the batch sizes that all lanes measured."""
    common = set.intersection(*map(set, tables)) if tables else set()
    return {size: max(table[size] for table in tables) for size in sorted(common)}
