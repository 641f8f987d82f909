"""The series of several replicas: any of them shows the sum, and no death takes anything back."""

import os
import time

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from app.observability.metrics import Metrics
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.metrics import SharedMetrics, count_apart, forget

MODEL = "shapes-vit"


@pytest.fixture
def table():
    """Two replicas, both of them this process."""
    table = HeartbeatTable(2)
    for index in range(2):
        table.started(index, os.getpid(), time.monotonic(), again=False)
    return table


@pytest.fixture
def replica(monkeypatch, table, tmp_path):
    """The series of the replica of an index, as its own process would have them."""
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # what is set is put back
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    classes = []

    def born(index):
        count_apart(index, str(tmp_path))
        classes.append(values.ValueClass)
        return SharedMetrics([MODEL], table, str(tmp_path))

    yield born
    for each in classes:
        each.close_all_files()


def shown(metrics, name, **labels):
    """The value of one sample."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    samples = [sample for family in families for sample in family.samples]
    (value,) = [s.value for s in samples if s.name == name and s.labels == labels]
    return value


def test_any_replica_shows_the_sum_of_all(replica):
    first, second = replica(0), replica(1)
    first.images.labels(MODEL, "ok").inc(3)
    second.images.labels(MODEL, "ok").inc(4)
    second.batch_size.labels(MODEL).observe(2)
    for each in (first, second):
        assert shown(each, "patchserve_images_total", model=MODEL, outcome="ok") == 7
        assert shown(each, "patchserve_batch_size_count", model=MODEL) == 1


def test_what_a_dead_replica_counted_stays_and_its_successor_goes_on(replica, tmp_path):
    first, second = replica(0), replica(1)
    first.images.labels(MODEL, "ok").inc(3)
    forget(0, str(tmp_path))
    assert shown(second, "patchserve_images_total", model=MODEL, outcome="ok") == 3
    replica(0).images.labels(MODEL, "ok").inc()
    assert shown(second, "patchserve_images_total", model=MODEL, outcome="ok") == 4
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_gauges_are_summed_where_they_count_and_else_the_largest(replica, tmp_path):
    first, second = replica(0), replica(1)
    for each, depth in ((first, 3), (second, 4)):
        each.queue_depth.labels(MODEL).set(depth)
        each.predicted_wait.labels(MODEL).set(depth)
        each.ready.set(1)
    assert shown(first, "patchserve_queue_depth", model=MODEL) == 7
    assert shown(first, "patchserve_predicted_wait_seconds", model=MODEL) == 4
    assert shown(first, "patchserve_ready") == 1
    forget(1, str(tmp_path))
    assert shown(first, "patchserve_queue_depth", model=MODEL) == 3


def test_every_series_of_one_replica_is_there_for_several(replica):
    def names(metrics):
        families = text_string_to_metric_families(metrics.exposition().decode())
        found = {(family.name, family.type) for family in families if family.samples}
        return {each for each in found if not each[0].endswith("_created")}  # not for several

    several = names(replica(0))
    assert several >= names(Metrics([MODEL]))
    assert {name for name, _ in several if "replica" in name} == {
        "patchserve_replica_up",
        "patchserve_replica_restarts",
    }


def test_each_replica_is_up_or_not_and_its_restarts_and_its_process_are_told(replica, table):
    metrics = replica(0)
    table.beat(1, time.monotonic(), None, None)
    assert shown(metrics, "patchserve_replica_up", replica="0") == 0
    assert shown(metrics, "patchserve_replica_up", replica="1") == 1
    assert shown(metrics, "process_resident_memory_bytes", replica="1") > 0
    table.exited(1)
    table.started(1, os.getpid(), time.monotonic(), again=True)
    assert shown(metrics, "patchserve_replica_restarts_total", replica="0") == 0
    assert shown(metrics, "patchserve_replica_restarts_total", replica="1") == 1


def test_of_a_process_that_has_ended_nothing_is_told(replica, table):
    metrics = replica(0)
    table.exited(1)
    text = metrics.exposition().decode()
    assert 'process_resident_memory_bytes{replica="0"}' in text
    assert 'process_resident_memory_bytes{replica="1"}' not in text
