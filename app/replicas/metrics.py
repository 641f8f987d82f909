"""Owns the series of several replicas: each counts in files of its own, any of them shows the sum.

Knows nothing of who measures. It is prometheus-client's multiprocess mode, whose files are named
after the replica and not after its process: a new process goes on where the dead one stopped.
"""

import os
import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from app.observability.metrics import Metrics
from app.replicas.heartbeats import HeartbeatTable


class SharedMetrics(Metrics):
    """The series of one replica, and of all.

    Args:
        models: the names of the models; their series start at 0.
        table: tells which replicas there are.
        directory: where all replicas keep their files.
    """

    def __init__(self, models: Iterable[str], table: HeartbeatTable, directory: str) -> None:
        super().__init__(models)
        self._all = CollectorRegistry()
        MultiProcessCollector(self._all, directory)
        self._all.register(ReplicaCollector(table))

    def exposition(self) -> bytes:
        """Everything of all replicas, in Prometheus' text format."""
        self.publish()
        return generate_latest(self._all)


class ReplicaCollector(Collector):
    """Which replicas are up, how often each was started anew, and what its process uses."""

    def __init__(self, table: HeartbeatTable) -> None:
        self._table = table

    def collect(self) -> Iterator[Metric]:
        """The series, with a label `replica`."""
        up = GaugeMetricFamily(
            "patchserve_replica_up", "1 while the replica can answer", labels=["replica"]
        )
        restarts = CounterMetricFamily(
            "patchserve_replica_restarts", "Processes started anew", labels=["replica"]
        )
        processes: dict[str, Metric] = {}
        for each in self._table.statuses(time.monotonic()):
            labels = {"replica": str(each.index)}
            up.add_metric([*labels.values()], each.ready)
            restarts.add_metric([*labels.values()], each.restarts)
            for family in _of_process(each.pid):
                merged = processes.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    merged.add_sample(sample.name, labels, sample.value)
        yield from (up, restarts, *processes.values())


def _of_process(pid: int | None) -> Iterable[Metric]:
    """CPU, memory and open files of a process; nothing of one that has ended."""
    if pid is None:
        return []
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


def count_apart(index: int, directory: str) -> None:
    """Let this process count in the files of a replica; to be called before anything counts."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.ValueClass = values.MultiProcessValue(lambda: index)


def forget(index: int, directory: str) -> None:
    """Drop the gauges of a replica that has ended; what it counted stays."""
    mark_process_dead(index, directory)
