"""The warm-up on several lanes."""

import pytest

from app.batching.costs import CostTable
from app.batching.scheduler import DeviceScheduler
from app.batching.warmup import measure_explanations, slowest_of
from app.core.types import Task
from app.engine.interface import BatchResult, ModelInfo
from app.engine.lanes import Lane
from models.preprocessing import Preprocessing

pytestmark = pytest.mark.anyio


class Explainer:
    """The n-th run takes 5 / n seconds by its own account; the network takes one."""

    def __init__(self) -> None:
        self.lanes: list[int] = []

    def run(self, inputs: object) -> BatchResult:
        self.lanes.append(1)
        return BatchResult([None], {"compute": 5.0 / len(self.lanes)}, 0.0)


def info(task: Task = "classify") -> ModelInfo:
    return ModelInfo(task, ("a",), Preprocessing(size=(8, 8)), "cpu", "float32", 1)


def test_the_cost_on_several_lanes_is_that_of_the_slowest_lane():
    assert slowest_of([{1: 0.010, 2: 0.020}, {1: 0.012, 2: 0.019, 4: 0.040}]) == {
        1: 0.012,
        2: 0.020,
    }
    assert slowest_of([]) == {}


async def test_explanations_are_measured_on_the_wide_lane_if_there_are_no_narrow_ones():
    lane, engine = Lane("wide", lambda seconds: None), Explainer()
    try:
        costs = CostTable({1: 0.05})
        found = await measure_explanations(engine, DeviceScheduler(lane), info(), costs)
    finally:
        lane.close()
    assert len(engine.lanes) == 2 * len(found)
    assert next(iter(found.values())) == pytest.approx(2.5 - 0.05)  # the second run counts


@pytest.mark.parametrize(("task", "network_s"), [("segment", 0.05), ("classify", 0.2)])
async def test_segmenters_and_slow_networks_measure_no_explanations(task, network_s):
    lane, engine = Lane("wide", lambda seconds: None), Explainer()
    try:
        costs = CostTable({1: network_s})
        found = await measure_explanations(engine, DeviceScheduler(lane), info(task), costs)
    finally:
        lane.close()
    assert (found, engine.lanes) == ({}, [])
