"""The warm-up on devices that plan, compile and run out of memory as a GPU does."""

import logging

import pytest

from app.engine.engine import TorchEngine
from app.engine.interface import BatchResult, OutOfMemory
from app.engine.pipeline.streams import HostStreams

PLAN_S = 0.4  # for each shape that is new
SHAPES = 2  # of the attention, for each batch size


class Clock:
    """A clock that only the device moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("app.engine.engine.time", clock)
    monkeypatch.setattr("app.engine.pipeline.graphs.time", clock)
    return clock


@pytest.fixture
def engine(monkeypatch, repeating, clock):
    """Load the bundled classifier on a CPU whose recorder plans each batch size."""

    def load(capture_s: float = 60.0, seconds=lambda count, first: 0.01 + count / 1000):
        class Planning(repeating):
            def record(self, work):
                clock.now += PLAN_S * SHAPES
                return super().record(work)

        recorder, started = Planning(), set()
        monkeypatch.setattr("app.engine.engine.streams_of", lambda device: HostStreams(recorder))
        loaded = TorchEngine("bundled", task="classify", device="cpu", capture_s=capture_s)
        loaded.load()

        def run(inputs):
            took = seconds(len(inputs), len(inputs) not in started)
            started.add(len(inputs))
            clock.now += took
            return BatchResult([], {"compute": took})

        monkeypatch.setattr(loaded, "run", run)
        return loaded

    return load


def test_planning_takes_no_time_from_the_measurement(engine, caplog):
    caplog.set_level(logging.INFO)
    costs = engine().warm_up(32, budget_s=5.0)
    assert costs == pytest.approx({n: 0.01 + n / 1000 for n in (1, 2, 4, 8, 16, 32)})
    assert "captured batches of 1, 2, 4, 8, 16, 32 of [1, 2, 4, 8, 16, 32] in 4.8 s" in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_every_captured_size_is_measured_even_if_the_time_is_up(engine):
    assert set(engine().warm_up(32, budget_s=0.0)) == {1, 2, 4, 8, 16, 32}


def test_sizes_that_were_not_captured_in_time_are_a_warning(engine, caplog):
    costs = engine(capture_s=2.0).warm_up(32, budget_s=0.0)
    assert "captured batches of 8, 16, 32 of" in caplog.text
    assert set(costs) == {1}  # nothing else fits into the budget
    assert "only batches of [1] images were measured" in caplog.text


def test_batches_that_do_not_fit_end_the_measurement_and_not_the_start(engine, caplog):
    def seconds(count, first):
        if count > 8:
            raise OutOfMemory("CUDA out of memory")
        return 0.01

    assert set(engine(seconds=seconds).warm_up(32, budget_s=60.0)) == {1, 2, 4, 8}
    assert "batches of 16 images cannot run: CUDA out of memory" in caplog.text


def test_a_device_without_memory_for_one_image_is_an_error(engine):
    def seconds(count, first):
        raise OutOfMemory("CUDA out of memory")

    with pytest.raises(OutOfMemory):
        engine(seconds=seconds).warm_up(32, budget_s=60.0)


def test_a_first_run_that_compiles_is_not_measured(engine):
    costs = engine(seconds=lambda count, first: 1.27 if first else 0.01).warm_up(4, budget_s=60.0)
    assert costs == pytest.approx({1: 0.01, 2: 0.01, 4: 0.01})


def test_a_slow_batch_is_run_twice(engine):
    runs = []

    def seconds(count, first):
        runs.append(count)
        return 2.0

    assert engine(seconds=seconds).warm_up(1, budget_s=60.0) == {1: 2.0}
    assert runs == [1, 1]
