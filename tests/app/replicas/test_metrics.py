"""Metrics of several replicas: any of them exposes the sums, which survive a failed replica."""

import os
import time

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from app.observability.metrics import Metrics
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.metrics import SharedMetrics, use_replica_files
from app.replicas.reserved_files import clear_gauges, create_files

MODEL = "shapes-vit"


@pytest.fixture
def table():
    """Two replicas, both with this process."""
    table = HeartbeatTable(2)
    for index in range(2):
        table.started(index, os.getpid(), time.monotonic(), again=False)
    return table


@pytest.fixture
def replica(monkeypatch, table, tmp_path):
    """Makes the metrics of the replica of an index, as its own process would."""
    for name in ("ValueClass", "MmapedDict"):
        monkeypatch.setattr(values, name, getattr(values, name))  # so that it is restored
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    classes = []
    create_files(str(tmp_path), 2)

    def make(index):
        use_replica_files(index, str(tmp_path))
        classes.append(values.ValueClass)
        return SharedMetrics([MODEL], table, str(tmp_path))

    yield make
    for each in classes:
        each.close_all_files()


def value_of(metrics, name, **labels):
    """The value of one sample."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    samples = [sample for family in families for sample in family.samples]
    (value,) = [s.value for s in samples if s.name == name and s.labels == labels]
    return value


def test_any_replica_exposes_the_sums_of_all(replica):
    first, second = replica(0), replica(1)
    first.images.labels(MODEL, "ok").inc(3)
    second.images.labels(MODEL, "ok").inc(4)
    second.batch_size.labels(MODEL).observe(2)
    for each in (first, second):
        assert value_of(each, "patchserve_images_total", model=MODEL, outcome="ok") == 7
        assert value_of(each, "patchserve_batch_size_count", model=MODEL) == 1


def test_counters_of_an_ended_replica_stay_and_its_next_process_continues_them(replica, tmp_path):
    first, second = replica(0), replica(1)
    first.images.labels(MODEL, "ok").inc(3)
    clear_gauges(str(tmp_path), 0)
    assert value_of(second, "patchserve_images_total", model=MODEL, outcome="ok") == 3
    replica(0).images.labels(MODEL, "ok").inc()
    assert value_of(second, "patchserve_images_total", model=MODEL, outcome="ok") == 4
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_gauges_that_count_are_summed_and_of_others_the_largest_is_taken(replica, tmp_path):
    first, second = replica(0), replica(1)
    for each, depth in ((first, 3), (second, 4)):
        each.queue_depth.labels(MODEL).set(depth)
        each.predicted_wait.labels(MODEL).set(depth)
        each.ready.set(1)
    assert value_of(first, "patchserve_queue_depth", model=MODEL) == 7
    assert value_of(first, "patchserve_predicted_wait_seconds", model=MODEL) == 4
    assert value_of(first, "patchserve_ready") == 1
    clear_gauges(str(tmp_path), 1)
    assert value_of(first, "patchserve_queue_depth", model=MODEL) == 3


def test_several_replicas_have_every_series_of_a_single_one(replica):
    def names(metrics):
        families = text_string_to_metric_families(metrics.exposition().decode())
        found = {(family.name, family.type) for family in families if family.samples}
        return {
            each for each in found if not each[0].endswith("_created")
        }  # the multiprocess mode has none

    several = names(replica(0))
    assert several >= names(Metrics([MODEL]))
    assert {name for name, _ in several if "replica" in name} == {
        "patchserve_replica_up",
        "patchserve_replica_restarts",
    }


def test_status_restarts_and_process_metrics_have_a_replica_label(replica, table):
    metrics = replica(0)
    table.beat(1, time.monotonic(), None, None)
    assert value_of(metrics, "patchserve_replica_up", replica="0") == 0
    assert value_of(metrics, "patchserve_replica_up", replica="1") == 1
    assert value_of(metrics, "process_resident_memory_bytes", replica="1") > 0
    table.exited(1)
    table.started(1, os.getpid(), time.monotonic(), again=True)
    assert value_of(metrics, "patchserve_replica_restarts_total", replica="0") == 0
    assert value_of(metrics, "patchserve_replica_restarts_total", replica="1") == 1


def test_an_ended_process_has_no_metrics(replica, table):
    metrics = replica(0)
    table.exited(1)
    text = metrics.exposition().decode()
    assert 'process_resident_memory_bytes{replica="0"}' in text
    assert 'process_resident_memory_bytes{replica="1"}' not in text
