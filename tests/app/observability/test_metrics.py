"""The exposition: its metrics, labels and initial values, and that Prometheus can parse it."""

from itertools import pairwise

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.core.errors import (
    HeadersTooLarge,
    MethodNotAllowed,
    ModelNotLoaded,
    NotAcceptable,
    NotFound,
    ServiceError,
    Unauthorized,
)
from app.observability.metrics import LATENCIES, OUTCOMES, PLACES, REASONS, STAGES, Metrics

MODELS = ("shapes-vit", "shapes-segformer")
LABELS = {  # of every series that the service exposes, by name and type
    ("http_requests_total", "counter"): {"route", "method", "code"},
    ("http_request_duration_seconds", "histogram"): {"route"},
    ("http_requests_in_flight", "gauge"): set(),
    ("aborted_connections_total", "counter"): {"reason"},
    ("images_total", "counter"): {"model", "outcome"},
    ("image_pixels", "histogram"): {"model"},
    ("stage_duration_seconds", "histogram"): {"model", "stage"},
    ("batch_size", "histogram"): {"model"},
    ("batch_duration_seconds", "histogram"): {"model"},
    ("queue_depth", "gauge"): {"model"},
    ("queue_oldest_age_seconds", "gauge"): {"model"},
    ("rejections_total", "counter"): {"model", "reason"},
    ("predicted_wait_seconds", "gauge"): {"model"},
    ("cancelled_total", "counter"): {"model", "where"},
    ("deadline_missed_total", "counter"): {"model", "where"},
    ("device_busy_seconds_total", "counter"): {"device"},
    ("device_memory_bytes", "gauge"): {"device", "kind"},
    ("out_of_memory_total", "counter"): set(),
    ("batch_splits_total", "counter"): {"cause"},
    ("ready", "gauge"): set(),
    ("draining", "gauge"): set(),
    ("model_info", "gauge"): {"model", "task", "device", "dtype"},
    ("model_load_seconds", "gauge"): {"model"},
    ("warmup_seconds", "gauge"): {"model"},
    ("event_loop_lag_seconds", "histogram"): set(),
    ("build_info", "gauge"): {"version", "torch", "python"},
}
WITHOUT_MODEL = {  # errors before a model is selected
    HeadersTooLarge,
    MethodNotAllowed,
    ModelNotLoaded,
    NotAcceptable,
    NotFound,
    Unauthorized,
}


def families(metrics: Metrics) -> dict[str, Metric]:
    """The metrics by full name, as in the exposition, without the *_created series."""
    read = text_string_to_metric_families(metrics.exposition().decode())
    named = {f"{one.name}_total" if one.type == "counter" else one.name: one for one in read}
    return {name: one for name, one in named.items() if not name.endswith("_created")}


def values(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The value of each series of a metric, or the count of a histogram, by label values."""
    family = families(metrics)[f"patchserve_{name}"]
    wanted = f"patchserve_{name}" + ("_count" if family.type == "histogram" else "")
    return {
        tuple(sample.labels.values()): sample.value
        for sample in family.samples
        if sample.name == wanted
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(MODELS)


def test_the_series_are_those_of_the_contract(metrics):
    ours = {name: one for name, one in families(metrics).items() if name.startswith("patchserve_")}
    assert {(name.removeprefix("patchserve_"), one.type) for name, one in ours.items()} == set(
        LABELS
    )
    assert all(one.documentation for one in ours.values())


@pytest.mark.parametrize(("name", "kind"), LABELS, ids=lambda value: value)
def test_every_series_has_the_labels_of_the_contract(metrics, name, kind):
    metrics.http_requests.labels("/classify", "POST", "200").inc()
    metrics.http_request_duration.labels("/classify").observe(0.01)
    metrics.device_busy.labels("cpu").inc()
    metrics.device_memory.labels("cpu", "allocated").set(1)
    metrics.model_info.labels("m", "classify", "cpu", "float32").set(1)
    samples = families(metrics)[f"patchserve_{name}"].samples
    assert samples
    for sample in samples:
        assert set(sample.labels) - {"le"} == LABELS[name, kind]


def test_the_process_has_metrics(metrics):
    assert families(metrics)["process_resident_memory_bytes"].samples[0].value > 0


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("images_total", OUTCOMES),
        ("stage_duration_seconds", STAGES),
        ("rejections_total", REASONS),
        ("cancelled_total", PLACES),
        ("deadline_missed_total", PLACES),
    ],
)
def test_all_known_label_values_start_at_zero(metrics, name, second):
    expected = {(model, label): 0.0 for model in MODELS for label in second}
    assert values(metrics, name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "image_pixels",
        "batch_size",
        "batch_duration_seconds",
        "queue_depth",
        "queue_oldest_age_seconds",
        "predicted_wait_seconds",
        "model_load_seconds",
        "warmup_seconds",
    ],
)
def test_the_series_of_every_model_start_at_zero(metrics, name):
    assert values(metrics, name) == {(model,): 0.0 for model in MODELS}


def test_metrics_without_labels_start_at_zero(metrics):
    for name in ("http_requests_in_flight", "ready", "event_loop_lag_seconds"):
        assert values(metrics, name) == {(): 0.0}


def test_without_models_there_are_no_series_of_models():
    assert values(Metrics(), "images_total") == {}


def test_the_outcomes_are_the_errors_of_image_requests():
    codes = {kind.code for kind in ServiceError.__subclasses__() if kind not in WITHOUT_MODEL}
    assert set(OUTCOMES) == codes | {"ok"}


def test_two_apps_in_one_process_count_separately(metrics):
    other = Metrics(MODELS)
    metrics.images.labels(MODELS[0], "ok").inc(3)
    assert values(metrics, "images_total")[MODELS[0], "ok"] == 3
    assert values(other, "images_total")[MODELS[0], "ok"] == 0


def test_the_stages_of_an_image_are_counted_once_each(metrics):
    metrics.observe_stages(MODELS[0], {"read": 0.25, "compute": 0.5})
    counts = values(metrics, "stage_duration_seconds")
    assert counts[MODELS[0], "read"] == counts[MODELS[0], "compute"] == 1
    assert sum(counts.values()) == 2
    text = metrics.exposition().decode()
    total = 'patchserve_stage_duration_seconds_sum{model="shapes-vit",stage="compute"} 0.5'
    assert total in text


def test_a_response_is_counted_by_route_method_and_status(metrics):
    for seconds in (0.25, 0.5):
        metrics.count_request("/classify", "POST", 200, seconds)
    metrics.count_request("/classify", "POST", 503, 0.25)
    assert values(metrics, "http_requests_total") == {
        ("200", "POST", "/classify"): 2.0,  # labels are in alphabetical order
        ("503", "POST", "/classify"): 1.0,
    }
    assert values(metrics, "http_request_duration_seconds") == {("/classify",): 3.0}
    total = 'patchserve_http_request_duration_seconds_sum{route="/classify"} 1.0'
    assert total in metrics.exposition().decode()


def test_publish_moves_observations_to_the_registry(metrics):
    value = metrics.registry.get_sample_value
    labels = {"route": "/classify", "method": "POST", "code": "200"}
    metrics.requests_in_flight = 2
    metrics.count_request("/classify", "POST", 200, 0.25)
    assert value("patchserve_http_requests_total", labels) is None
    metrics.publish()
    assert value("patchserve_http_requests_total", labels) == 1
    assert value("patchserve_http_requests_in_flight") == 2


def test_latencies_are_resolved_from_half_a_millisecond_to_ten_seconds():
    assert (LATENCIES[0], LATENCIES[-1]) == (0.0005, 10.0)
    steps = [high / low for low, high in pairwise(LATENCIES)]
    assert 1.2 < min(steps) <= max(steps) < 1.7


def test_model_names_may_have_any_character():
    odd = 'my "model"\n\\ü'
    assert (odd, "ok") in values(Metrics([odd]), "images_total")


def test_the_build_info_has_all_versions(metrics):
    (labels,) = values(metrics, "build_info")
    assert all(labels)
