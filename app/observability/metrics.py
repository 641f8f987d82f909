"""Owns every series that /metrics shows, in one registry of its own.

Knows nothing of who measures; label values are a bounded set and start at 0.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from platform import python_version
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from app.observability.metrics_buffer import MetricsBuffer

LATENCIES = (
    0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05,
    0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0,
)  # fmt: skip
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
PIXELS = tuple(2**exponent for exponent in range(12, 28))
STAGES = ("read", "decode", "queue", "stage_in", "compute", "postprocess", "encode")
OUTCOMES = (
    "ok", "empty_body", "malformed_request", "payload_too_large", "image_too_large",
    "unsupported_image_format", "invalid_image", "invalid_parameter", "upload_too_slow",
    "overloaded", "not_ready", "draining", "deadline_exceeded", "client_gone", "internal",
)  # fmt: skip
REASONS = ("bytes_in_flight", "queue_full", "predicted_wait", "not_ready", "draining")
SPLITS = ("error", "out_of_memory")
PLACES = ("read", "decode", "queue", "compute", "encode")

OfAll = Literal["livesum", "livemax"]


class Metrics:
    """The series of one app.

    Args:
        models: the names of the models that the app will serve; their series start at 0.

    Attributes:
        buffer: where everything is noted that is counted for every image or batch.
        requests_in_flight: how many requests are being answered.
    """

    def __init__(self, models: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.buffer = MetricsBuffer()
        self.requests_in_flight = 0
        ProcessCollector(registry=self.registry)
        self._http()
        self._images()
        self._device()
        for model in models:
            self._start_at_zero(model)

    def start_routes(self, routes: Iterable[str]) -> None:
        """Let the series of these routes start at 0."""
        for route in routes:
            self.http_request_duration.labels(route)

    def publish(self) -> None:
        """Show what was noted so far; to be called again and again, for others may read it."""
        self.buffer.flush()
        self.http_requests_in_flight.set(self.requests_in_flight)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        self.publish()
        return generate_latest(self.registry)

    def observe_stages(self, model: str, stages: Mapping[str, float]) -> None:
        """Count the seconds that one image spent in each stage."""
        self.buffer.record_all(stages, self.stage_duration, model)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self.buffer.record(1, self.http_requests, route, method, str(status))
        self.buffer.record(seconds, self.http_request_duration, route)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"patchserve_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, of_all: OfAll = "livemax") -> Gauge:
        """A gauge, and what it is for several replicas: the largest of theirs, or their sum."""
        return Gauge(
            f"patchserve_{name}", text, labels, registry=self.registry, multiprocess_mode=of_all
        )

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = LATENCIES
    ) -> Histogram:
        return Histogram(
            f"patchserve_{name}", text, labels, registry=self.registry, buckets=buckets
        )

    def _http(self) -> None:
        self.http_requests = self._counter(
            "http_requests_total", "Answers sent", "route", "method", "code"
        )
        self.http_request_duration = self._histogram(
            "http_request_duration_seconds", "From the first header to the last byte", "route"
        )
        self.http_requests_in_flight = self._gauge(
            "http_requests_in_flight", "Requests that are being answered", of_all="livesum"
        )
        self.event_loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop woke a timer"
        )
        self.ready = self._gauge("ready", "1 when /readyz answers 200")
        self.draining = self._gauge("draining", "1 once the service has been told to leave")
        build = self._gauge("build_info", "Versions", "version", "torch", "python")
        build.labels(version("patchserve"), version("torch"), python_version()).set(1)

    def _images(self) -> None:
        self.images = self._counter("images_total", "Images by outcome", "model", "outcome")
        self.image_pixels = self._histogram(
            "image_pixels", "Pixels of the images decoded", "model", buckets=PIXELS
        )
        self.stage_duration = self._histogram(
            "stage_duration_seconds", "Where an image's time went", "model", "stage"
        )
        self.batch_size = self._histogram(
            "batch_size", "Images in a batch", "model", buckets=BATCH_SIZES
        )
        self.batch_duration = self._histogram(
            "batch_duration_seconds", "A batch on the device", "model"
        )
        self.queue_depth = self._gauge(
            "queue_depth", "Images admitted and not yet run", "model", of_all="livesum"
        )
        self.queue_oldest_age = self._gauge(
            "queue_oldest_age_seconds", "Age of the image that has waited longest", "model"
        )
        self.rejections = self._counter(
            "rejections_total", "Requests refused on arrival", "model", "reason"
        )
        self.predicted_wait = self._gauge(
            "predicted_wait_seconds", "The wait of an image admitted now", "model"
        )
        self.cancelled = self._counter(
            "cancelled_total", "Requests whose caller left", "model", "where"
        )
        self.deadline_missed = self._counter(
            "deadline_missed_total", "Requests whose deadline passed", "model", "where"
        )

    def _device(self) -> None:
        self.device_busy = self._counter(
            "device_busy_seconds_total", "Time the device's lane was at work", "device"
        )
        self.out_of_memory = self._counter(
            "out_of_memory_total", "Batches that the memory had no room for"
        )
        self.batch_splits = self._counter(
            "batch_splits_total", "Batches cut in halves to be run again", "cause"
        )
        for cause in SPLITS:
            self.batch_splits.labels(cause)
        self.device_memory = self._gauge(
            "device_memory_bytes", "Memory of the device", "device", "kind", of_all="livesum"
        )
        self.model_info = self._gauge(
            "model_info", "What is loaded", "model", "task", "device", "dtype"
        )
        self.model_load = self._gauge("model_load_seconds", "Reading the checkpoint", "model")
        self.warm_up = self._gauge("warmup_seconds", "Warming up and measuring batches", "model")

    def _start_at_zero(self, model: str) -> None:
        for stage in STAGES:
            self.stage_duration.labels(model, stage)
        for outcome in OUTCOMES:
            self.images.labels(model, outcome)
        for reason in REASONS:
            self.rejections.labels(model, reason)
        for place in PLACES:
            self.cancelled.labels(model, place)
            self.deadline_missed.labels(model, place)
        for series in (
            self.image_pixels, self.batch_size, self.batch_duration, self.queue_depth,
            self.queue_oldest_age, self.predicted_wait, self.model_load, self.warm_up,
        ):  # fmt: skip
            series.labels(model)
