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

    image: str = Field(
        description="the image file as base64, or as a base64 data: URI",
        json_schema_extra={"format": "byte", "minLength": 1},
    )


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
    area: int = Field(description="in pixels")
    fraction: float = Field(description="area as a fraction of the image")
    bbox: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels")
    rle: RunLengths
    confidence: float = Field(
        description="mean over the class's pixels of the probability of the class, from 0 to 1"
    )


class SegmentResponse(Schema):
    """The classes of an image, largest first, and its mask."""

    model: str
    width: int
    height: int
    segments: list[Segment]
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
