"""Owns the shapes of what is sent and answered as JSON.

Knows nothing of how an answer comes about.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from app.core.types import Method, Task

LONGEST_MS = 10**9 - 1  # that a caller may name as the time a request may take


class Schema(BaseModel):
    """Immutable, and strict about what it is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageRequest(BaseModel):
    """The JSON form of a request body; members that a client adds for itself are ignored."""

    image: str = Field(
        description="the image file as base64, or as a data: URI in base64",
        json_schema_extra={"format": "byte", "minLength": 1},
    )


@with_config(ConfigDict(extra="forbid"))
class Prediction(TypedDict):
    """One label of a classified image."""

    label: str
    index: int
    score: Annotated[
        float, Field(description="softmax over the labels; sigmoid where they are independent")
    ]


class ClassifyResponse(Schema):
    """The labels of an image, best first."""

    model: str
    predictions: list[Prediction]


class EmbeddingResponse(Schema):
    """What the classifier's head reads the labels from: one vector for an image."""

    model: str
    embedding: list[float]


class ExplainResponse(Schema):
    """The labels of an image, best first, and what the best one hangs on."""

    model: str
    method: Method
    predictions: list[Prediction]
    relevance: list[list[float]] = Field(
        description="of each cell of the grid, by rows, from 0 on; the sum is 1, or 0 where "
        "nothing was found to speak for the label"
    )
    box: tuple[float, float, float, float] = Field(
        description="where the grid lies in the image: x, y, width, height in pixels; it may reach "
        "beyond"
    )
    attention_distance: list[list[float]] = Field(
        description="the mean attention distance of each layer and each of its heads, in pixels "
        "of the network's input"
    )


class RunLengths(Schema):
    """A binary mask as COCO's compressed run lengths, column by column."""

    size: tuple[int, int] = Field(description="height and width in pixels")
    counts: str


class Segment(Schema):
    """One class that occurs in a mask."""

    label: str
    index: int = Field(description="the value of its pixels in the mask")
    area: int = Field(description="pixels")
    fraction: float = Field(description="of the image")
    bbox: tuple[int, int, int, int] = Field(description="x, y, width, height in pixels")
    rle: RunLengths


class SegmentResponse(Schema):
    """The classes of an image, largest first, and its mask."""

    model: str
    width: int
    height: int
    segments: list[Segment]
    mask: str = Field(description="the picture that image/png would have got, as base64")


class BatchCost(Schema):
    """What a batch of one size took at warm-up."""

    lane: Literal["wide", "narrow"] = Field(
        description="wide: alone on the whole device; narrow: on one core, the others at work too"
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
    max_batch_size: int | None = None
    batch_costs: list[BatchCost] = []


class ModelsResponse(Schema):
    """Every model of the service."""

    models: list[ModelResponse]


class HealthResponse(Schema):
    """What a probe found; `reasons` is empty when all is well."""

    status: Literal["ok", "unavailable"]
    reasons: list[str] = []
    models: dict[str, str] = Field(default={}, description="the state of each model by name")
    replicas: dict[str, str] | None = Field(
        default=None, description="the state of each replica, where there are several"
    )


class Problem(BaseModel):
    """An RFC 9457 problem: every answer of status 400 and above."""

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
