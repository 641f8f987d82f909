"""What is noted shows as if it had been counted at once, also where several threads are at it."""

import threading

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Sample

from app.observability.metrics_buffer import MetricsBuffer

BOUNDS = (0.5, 1.0, 2.5)


def samples(series: Counter | Histogram) -> list[Sample]:
    """All that is shown of it, but when it was made."""
    return [
        one._replace(timestamp=None)
        for family in series.collect()
        for one in family.samples
        if not one.name.endswith("_created")
    ]


def histogram() -> Histogram:
    return Histogram("seconds", "Some", buckets=BOUNDS, registry=CollectorRegistry())


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.integers(0, 12).map(lambda n: n / 4))))
def test_a_histogram_shows_what_it_would_have_observed(amounts):
    noted, observed, tally = histogram(), histogram(), MetricsBuffer()
    for amount in amounts:
        tally.record(amount, noted)
        observed.observe(amount)
    tally.flush()
    assert samples(noted) == samples(observed)


def test_a_counter_grows_by_all_that_was_noted():
    counter, tally = Counter("things", "Some", registry=CollectorRegistry()), MetricsBuffer()
    for _ in range(3):
        tally.record(2, counter)
    assert counter.collect()[0].samples[0].value == 0
    tally.flush()
    assert counter.collect()[0].samples[0].value == 6


def test_what_was_added_up_is_not_added_again():
    counter, tally = Counter("things", "Some", registry=CollectorRegistry()), MetricsBuffer()
    tally.record(1, counter)
    tally.flush()
    tally.flush()
    tally.record(1, counter)
    tally.flush()
    assert counter.collect()[0].samples[0].value == 2


def test_labels_are_kept_apart():
    registry, tally = CollectorRegistry(), MetricsBuffer()
    counter = Counter("things", "Some", ("colour", "form"), registry=registry)
    tally.record(1, counter, "red", "round")
    tally.record(5, counter, "red", "flat")
    tally.flush()
    assert registry.get_sample_value("things_total", {"colour": "red", "form": "round"}) == 1
    assert registry.get_sample_value("things_total", {"colour": "red", "form": "flat"}) == 5


def test_amounts_by_label_are_noted_at_once():
    registry, tally = CollectorRegistry(), MetricsBuffer()
    seconds = Histogram("seconds", "Some", ("model", "stage"), buckets=BOUNDS, registry=registry)
    tally.record_all({"read": 0.5, "compute": 1.0}, seconds, "m")
    tally.record_all({"compute": 2.0}, seconds, "m")
    tally.flush()
    tally.flush()
    for stage, count, total in (("read", 1, 0.5), ("compute", 2, 3.0)):
        labels = {"model": "m", "stage": stage}
        assert registry.get_sample_value("seconds_count", labels) == count
        assert registry.get_sample_value("seconds_sum", labels) == total


def test_nothing_is_lost_or_doubled_while_threads_add_up():
    counter, tally = Counter("things", "Some", registry=CollectorRegistry()), MetricsBuffer()
    done = threading.Event()

    def add_up() -> None:
        while not done.is_set():
            tally.flush()

    threads = [threading.Thread(target=add_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30_000):
        tally.record(1, counter)
    done.set()
    for thread in threads:
        thread.join()
    tally.flush()
    assert counter.collect()[0].samples[0].value == 30_000
