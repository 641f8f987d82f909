"""Recorded observations give the same series as direct ones, also with several threads."""

import threading

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Sample

from app.observability.metrics_buffer import MetricsBuffer

BOUNDS = (0.5, 1.0, 2.5)


def samples(series: Counter | Histogram) -> list[Sample]:
    """All samples of a metric, without its time of creation."""
    return [
        one._replace(timestamp=None)
        for family in series.collect()
        for one in family.samples
        if not one.name.endswith("_created")
    ]


def histogram() -> Histogram:
    return Histogram("seconds", "Some", buckets=BOUNDS, registry=CollectorRegistry())


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.integers(0, 12).map(lambda n: n / 4))))
def test_a_histogram_is_the_same_as_with_observe(amounts):
    recorded, observed, buffer = histogram(), histogram(), MetricsBuffer()
    for amount in amounts:
        buffer.record(amount, recorded)
        observed.observe(amount)
    buffer.flush()
    assert samples(recorded) == samples(observed)


def test_a_counter_grows_by_all_amounts():
    counter, buffer = Counter("things", "Some", registry=CollectorRegistry()), MetricsBuffer()
    for _ in range(3):
        buffer.record(2, counter)
    assert counter.collect()[0].samples[0].value == 0
    buffer.flush()
    assert counter.collect()[0].samples[0].value == 6


def test_flushed_amounts_are_not_added_again():
    counter, buffer = Counter("things", "Some", registry=CollectorRegistry()), MetricsBuffer()
    buffer.record(1, counter)
    buffer.flush()
    buffer.flush()
    buffer.record(1, counter)
    buffer.flush()
    assert counter.collect()[0].samples[0].value == 2


def test_label_values_are_separate_series():
    registry, buffer = CollectorRegistry(), MetricsBuffer()
    counter = Counter("things", "Some", ("colour", "form"), registry=registry)
    buffer.record(1, counter, "red", "round")
    buffer.record(5, counter, "red", "flat")
    buffer.flush()
    assert registry.get_sample_value("things_total", {"colour": "red", "form": "round"}) == 1
    assert registry.get_sample_value("things_total", {"colour": "red", "form": "flat"}) == 5


def test_a_mapping_records_one_amount_per_label_value():
    registry, buffer = CollectorRegistry(), MetricsBuffer()
    seconds = Histogram("seconds", "Some", ("model", "stage"), buckets=BOUNDS, registry=registry)
    buffer.record_all({"read": 0.5, "compute": 1.0}, seconds, "m")
    buffer.record_all({"compute": 2.0}, seconds, "m")
    buffer.flush()
    buffer.flush()
    for stage, count, total in (("read", 1, 0.5), ("compute", 2, 3.0)):
        labels = {"model": "m", "stage": stage}
        assert registry.get_sample_value("seconds_count", labels) == count
        assert registry.get_sample_value("seconds_sum", labels) == total


def test_no_amount_is_lost_or_doubled_while_threads_flush():
    counter, buffer = Counter("things", "Some", registry=CollectorRegistry()), MetricsBuffer()
    done = threading.Event()

    def flush() -> None:
        while not done.is_set():
            buffer.flush()

    threads = [threading.Thread(target=flush) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30_000):
        buffer.record(1, counter)
    done.set()
    for thread in threads:
        thread.join()
    buffer.flush()
    assert counter.collect()[0].samples[0].value == 30_000
