"""The private parts of prometheus-client that the project uses.

`MetricsBuffer` adds many observations to a histogram at once, and replicas name their files
themselves. prometheus-client has no public interface for either.
"""

import inspect

from prometheus_client import CollectorRegistry, Histogram, values

ADVICE = (
    "prometheus-client has changed {part}. Adapt app/observability/metrics_buffer.py (add) or "
    "app/replicas/metrics.py to it, or call observe() for each amount; then raise the upper bound "
    "of prometheus-client in pyproject.toml and the version in constraints.txt."
)


def histogram() -> Histogram:
    return Histogram("seconds", "Some", buckets=(0.5, 1.0), registry=CollectorRegistry())


def test_a_histogram_has_upper_bounds():
    bounds = getattr(histogram(), "_upper_bounds", None)
    assert bounds == [0.5, 1.0, float("inf")], ADVICE.format(part="Histogram._upper_bounds")


def test_a_histogram_has_a_sum_that_can_be_increased():
    series = histogram()
    total = getattr(series, "_sum", None)
    assert hasattr(total, "inc"), ADVICE.format(part="Histogram._sum")
    series.observe(0.25)
    assert total.get() == 0.25, ADVICE.format(part="Histogram._sum")


def test_a_histogram_has_a_count_per_bucket_without_the_buckets_below():
    series = histogram()
    buckets = getattr(series, "_buckets", None)
    part = ADVICE.format(part="Histogram._buckets")
    assert buckets is not None, part
    assert len(buckets) == 3, part
    assert all(hasattr(bucket, "inc") for bucket in buckets), part
    series.observe(0.75)
    assert [bucket.get() for bucket in buckets] == [0, 1, 0], part


def test_the_class_of_values_can_be_replaced_and_takes_the_name_of_a_process():
    part = ADVICE.format(part="values.ValueClass or values.MultiProcessValue")
    assert inspect.isclass(getattr(values, "ValueClass", None)), part
    make_class = getattr(values, "MultiProcessValue", None)
    assert make_class is not None, part
    assert list(inspect.signature(make_class).parameters) == ["process_identifier"], part


def test_the_class_of_files_can_be_replaced_and_grows_when_a_series_does_not_fit(tmp_path):
    part = ADVICE.format(part="values.MmapedDict")
    kind = getattr(values, "MmapedDict", None)
    assert inspect.isclass(kind), part
    path = tmp_path / "counter_0.db"
    path.write_bytes(bytes(2**16))
    file = kind(str(path))
    assert (file._used, file._capacity, file._positions) == (8, 2**16, {}), part
    assert file._fname == str(path), part
    file.write_value("key" * 7, 1.0, 2.0)
    assert file._used == 8 + 4 + 28 + 16, part
    assert file.read_value("key" * 7) == (1.0, 2.0), part
    file.close()
