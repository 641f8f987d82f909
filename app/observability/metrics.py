"""All Prometheus metrics of the service. Label values are bounded; known series start at 0."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from platform import python_version
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
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
REASONS = (
    "bytes_in_flight", "queue_full", "displaced", "predicted_wait", "not_ready", "draining"
)  # fmt: skip
ABORTS = ("slow_receiver", "unsent_bytes")  # of connections
SPLITS = ("error", "out_of_memory")
PLACES = ("read", "decode", "queue", "compute", "encode")

Aggregation = Literal["livesum", "livemax"]  # of a gauge over the replicas


class Metrics:
    """The metrics of one app, in a registry of its own.

    Args:
        models: names of the models that the app will serve; their series start at 0.

    Attributes:
        buffer: gets the observations that are made for each image, batch or response.
        requests_in_flight: number of requests without a complete response.
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
        """Create the series of these routes, which start at 0."""
        for route in routes:
            self.http_request_duration.labels(route)

    def publish(self) -> None:
        """Move the buffered observations to the registry, which other replicas may read."""
        self.buffer.flush()
        self.http_requests_in_flight.set(self.requests_in_flight)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        self.publish()
        return generate_latest(self.collected)

    def families(self) -> list[Metric]:
        """All metrics as they are now."""
        self.publish()
        return list(self.collected.collect())

    @property
    def collected(self) -> CollectorRegistry:
        """The registry with what is exposed."""
        return self.registry

    def observe_stages(self, model: str, stages: Mapping[str, float]) -> None:
        """Record the seconds that an image spent in each stage."""
        self.buffer.record_all(stages, self.stage_duration, model)

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one response and record its seconds."""
        self.buffer.record(1, self.http_requests, route, method, str(status))
        self.buffer.record(seconds, self.http_request_duration, route)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"patchserve_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, of_all: Aggregation = "livemax") -> Gauge:
        """A gauge; `of_all` is its value for several replicas: their maximum or their sum."""
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
            "http_requests_total", "Responses", "route", "method", "code"
        )
        self.http_request_duration = self._histogram(
            "http_request_duration_seconds",
            "Time from the headers of a request to the last byte of the response",
            "route",
        )
        self.http_requests_in_flight = self._gauge(
            "http_requests_in_flight", "Requests without a complete response", of_all="livesum"
        )
        self.event_loop_lag = self._histogram(
            "event_loop_lag_seconds", "Delay of timers of the event loop"
        )
        self.aborted_connections = self._counter(
            "aborted_connections_total",
            "Connections closed because the client did not receive its response",
            "reason",
        )
        for reason in ABORTS:
            self.aborted_connections.labels(reason)
        self.ready = self._gauge("ready", "1 while /readyz returns 200")
        self.draining = self._gauge("draining", "1 once a shutdown has begun")
        build = self._gauge(
            "build_info", "Versions of the service, torch and Python", "version", "torch", "python"
        )
        build.labels(version("patchserve"), version("torch"), python_version()).set(1)

    def _images(self) -> None:
        self.images = self._counter("images_total", "Images by outcome", "model", "outcome")
        self.image_pixels = self._histogram(
            "image_pixels", "Pixels of decoded images", "model", buckets=PIXELS
        )
        self.stage_duration = self._histogram(
            "stage_duration_seconds", "Time of an image in each stage", "model", "stage"
        )
        self.batch_size = self._histogram(
            "batch_size", "Images in a batch", "model", buckets=BATCH_SIZES
        )
        self.batch_duration = self._histogram(
            "batch_duration_seconds", "Time of a batch on the device", "model"
        )
        self.queue_depth = self._gauge(
            "queue_depth", "Images in the queue", "model", of_all="livesum"
        )
        self.queue_oldest_age = self._gauge(
            "queue_oldest_age_seconds", "Age of the oldest image in the queue", "model"
        )
        self.rejections = self._counter(
            "rejections_total",
            "Refused requests by reason",
            "model",
            "reason",
        )
        self.predicted_wait = self._gauge(
            "predicted_wait_seconds", "Predicted wait of a request that is accepted now", "model"
        )
        self.cancelled = self._counter(
            "cancelled_total", "Requests whose client disconnected", "model", "where"
        )
        self.deadline_missed = self._counter(
            "deadline_missed_total", "Requests whose deadline passed", "model", "where"
        )

    def _device(self) -> None:
        self.device_busy = self._counter(
            "device_busy_seconds_total", "Time that the device ran batches", "device"
        )
        self.out_of_memory = self._counter(
            "out_of_memory_total", "Batches that did not fit into the device's memory"
        )
        self.batch_splits = self._counter(
            "batch_splits_total", "Batches split in halves after an error", "cause"
        )
        for cause in SPLITS:
            self.batch_splits.labels(cause)
        self.device_memory = self._gauge(
            "device_memory_bytes", "Device memory by kind", "device", "kind", of_all="livesum"
        )
        self.model_info = self._gauge(
            "model_info", "Loaded models", "model", "task", "device", "dtype"
        )
        self.model_load = self._gauge("model_load_seconds", "Time to load the checkpoint", "model")
        self.warm_up = self._gauge(
            "warmup_seconds", "Time to warm up and measure batch costs", "model"
        )

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
