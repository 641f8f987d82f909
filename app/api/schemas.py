"""Pydantic models of JSON requests and responses."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from app.core.types import Method, ProblemType, Task

MAX_TIMEOUT_MS = 10**9 - 1  # largest value of X-Request-Timeout-Ms


class Schema(BaseModel):
    """Base of the response models: immutable, without additional members."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageRequest(BaseModel):
    """The JSON form of a request body; additional members are parameters of the operation."""

    model_config = ConfigDict(extra="allow")

    image: str


@with_config(ConfigDict(extra="forbid"))
class Prediction(TypedDict):
    """One label of a classified image."""

    label: str
    index: int
    score: Annotated[
        float,
        Field(
            description="softmax over the labels; a sigmoid of each if they are independent or "
            "there is only one; of a regression the value itself"
        ),
    ]


class ClassifyResponse(Schema):
    """The labels of an image, best first."""

    model: str
    predictions: list[Prediction]


class EmbeddingResponse(Schema):
    """The embedding of an image: the vector that the classifier's head gets as input."""

    model: str
    embedding: list[float]


class ExplainResponse(Schema):
    """The labels of an image, best first, and the relevance of its regions for the best label."""

    model: str
    method: Method
    predictions: list[Prediction]
    relevance: list[list[float]] = Field(
        description="relevance of each cell of the grid, row by row, not negative; the sum is 1, "
        "or 0 if no region supports the label"
    )
    box: tuple[float, float, float, float] = Field(
        description="position of the grid in the image: x, y, width, height in pixels; it may "
        "extend beyond the image"
    )
    attention_distance: list[list[float]] = Field(
        description="mean attention distance of each head of each layer, in pixels of the "
        "network's input"
    )


class RunLengths(Schema):
    """A binary mask as COCO's compressed run lengths, column by column."""

    size: tuple[int, int] = Field(description="height and width in pixels")
    counts: str


class Segment(Schema):
    """One class that occurs in a mask."""

    label: str
    index: int = Field(description="pixel value of the class in the mask")
    color: str = Field(description="color of the class, as #rrggbb")
    area: int = Field(description="in pixels")
    fraction: float = Field(description="area as a fraction of the image")
    bbox: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels")
    rle: RunLengths
    polygons: list[list[int]] = Field(
        default=[],
        description="only with polygons=true: rings [x0, y0, x1, y1, ...] in pixels; the class "
        "covers the points inside an odd number of them",
    )
    confidence: float = Field(
        description="mean over the class's pixels of the probability of the class, from 0 to 1"
    )


class SegmentResponse(Schema):
    """The classes of an image, largest first, and its mask."""

    model: str
    width: int
    height: int
    segments: list[Segment]
    background: int | None = Field(
        description="index of the class where an overlay leaves the image as it is; null: none"
    )
    mask: str = Field(description="the PNG file that a request for image/png gets, as base64")


class BatchCost(Schema):
    """Time of a batch of one size, measured at warm-up."""

    lane: Literal["wide", "narrow"] = Field(
        description="wide: alone on the whole device; narrow: on one core while the others work too"
    )
    batch_size: int
    seconds: float


class ModelResponse(Schema):
    """One model of the service."""

    name: str
    task: Task
    status: str
    labels: list[str] = []
    input_size: Annotated[list[int] | None, Field(description="height, width; null: any")] = None
    device: str | None = None
    dtype: str | None = None
    runtime: str | None = None
    parameters: int | None = None
    problem_type: Annotated[
        ProblemType | None,
        Field(description="of a classifier; it decides what `score` means"),
    ] = None
    preprocessing_source: Annotated[
        Literal["checkpoint", "assumed"] | None,
        Field(description="assumed: the checkpoint has no preprocessor_config.json"),
    ] = None
    assumptions: Annotated[
        list[str],
        Field(description="what the checkpoint leaves open and was assumed, one sentence each"),
    ] = []
    max_batch_size: int | None = None
    batch_costs: list[BatchCost] = []


class ModelsResponse(Schema):
    """Every model of the service."""

    models: list[ModelResponse]


class HealthResponse(Schema):
    """The result of a probe; `reasons` is empty if the status is ok."""

    status: Literal["ok", "unavailable"]
    reasons: list[str] = []
    models: dict[str, str] = Field(default={}, description="state of each model by name")
    replicas: dict[str, str] | None = Field(
        default=None, description="state of each replica, if there are several"
    )


class ModelStatus(Schema):
    """A model in short; until it is warm, only its name, task and status are known."""

    name: str
    task: Task
    status: str
    device: str | None = None
    dtype: str | None = None
    runtime: str | None = None
    parameters: int | None = None
    max_batch_size: int | None = None
    labels: Annotated[int | None, Field(description="number of labels")] = None
    input_size: Annotated[list[int] | None, Field(description="height, width; null: any")] = None
    problem_type: Annotated[
        ProblemType | None, Field(description="of a classifier; it decides what `score` means")
    ] = None


class ServiceLimits(Schema):
    """What a client should know before it sends an image."""

    max_body_bytes: int
    max_image_pixels: int
    request_timeout_s: float
    image_formats: list[str]


class LatencyBuckets(Schema):
    """How many responses took at most so many seconds; the last bound, null, is infinite."""

    le: list[float | None]
    counts: list[int]


class TrafficTotals(Schema):
    """Totals of the image requests since the start, of all replicas."""

    requests: int
    errors: int = Field(description="responses with status 400 or above")
    latency: LatencyBuckets
    batches: int
    batched_images: int
    queue_depth: int = Field(description="images that wait now")
    in_flight: int = Field(description="requests without a complete response now, of all routes")


class StatusResponse(Schema):
    """Readiness with progress, models, limits and traffic."""

    version: str
    ready: bool
    reasons: list[str] = Field(description="why the service is not ready")
    progress: float = Field(description="part of the start that is done, from 0 to 1")
    key_required: bool = Field(description="whether image requests need an API key")
    time: float = Field(description="clock of the service, in seconds, to compute rates")
    models: list[ModelStatus]
    limits: ServiceLimits
    traffic: TrafficTotals


class Problem(BaseModel):
    """An RFC 9457 problem: the body of every response with status 400 or above."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    retryable: bool
    retry_after_ms: int | None = None
    limits: dict[str, int] | None = None
