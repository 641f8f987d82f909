"""Metrics of several replicas: each writes its own files, and any replica exposes the sums.

This is prometheus-client's multiprocess mode. Its files are named after the replica instead of the
process, so a restarted replica continues the counters of the previous process.
"""

import os
import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.observability.metrics import Metrics
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.reserved_files import ReservedFile


class SharedMetrics(Metrics):
    """The metrics of one replica; the exposition covers all replicas.

    Args:
        models: the names of the models; their series start at 0.
        table: the heartbeats of the replicas.
        directory: the folder with the files of all replicas.
    """

    def __init__(self, models: Iterable[str], table: HeartbeatTable, directory: str) -> None:
        super().__init__(models)
        self._all = CollectorRegistry()
        MultiProcessCollector(self._all, directory)
        self._all.register(ReplicaCollector(table))

    @property
    def collected(self) -> CollectorRegistry:
        """The registry with the metrics of all replicas."""
        return self._all


class ReplicaCollector(Collector):
    """Which replicas are ready, how often each was restarted, and what its process uses."""

    def __init__(self, table: HeartbeatTable) -> None:
        self._table = table

    def collect(self) -> Iterator[Metric]:
        """The metrics of the replicas, with a label `replica`."""
        up = GaugeMetricFamily(
            "patchserve_replica_up", "1 while the replica is ready", labels=["replica"]
        )
        restarts = CounterMetricFamily(
            "patchserve_replica_restarts", "Restarts of the replica", labels=["replica"]
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
    """CPU, memory and open files of a process; empty if the replica has none."""
    if pid is None:
        return []
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


def use_replica_files(index: int, directory: str) -> None:
    """Write the metrics of this process to the files of a replica. Call it before any metric."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.MmapedDict = ReservedFile  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(lambda: index)
