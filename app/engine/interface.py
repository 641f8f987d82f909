"""What batching asks of an engine, and what it gets back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.core.types import LabelMap, Method, ProblemType, Task
from models.preprocessing import Preprocessing

DEFAULT_INPUT_SIZE = (512, 512)  # height and width at warm-up if the network takes any size


class ClassifyInput(NamedTuple):
    """One image to classify: uint8 (H, W, 3), and the number of labels to return."""

    pixels: NDArray[np.uint8]
    top_k: int


class EmbedInput(NamedTuple):
    """One image to embed: uint8 (H, W, 3)."""

    pixels: NDArray[np.uint8]


class ExplainInput(NamedTuple):
    """One image to classify and explain: uint8 (H, W, 3), number of labels, and the method."""

    pixels: NDArray[np.uint8]
    top_k: int
    method: Method


class SegmentInput(NamedTuple):
    """One image to segment.

    Attributes:
        pixels: uint8 (H, W, 3).
        size: the (height, width) of its mask.
        confidence: whether the confidence is wanted. A batch may contain inputs of both kinds.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    confidence: bool = False


def blank_input(task: Task, preprocessing: Preprocessing) -> ClassifyInput | SegmentInput:
    """A black image of the network's input size, to try or to measure a network."""
    height, width = preprocessing.input_size or DEFAULT_INPUT_SIZE
    pixels = np.zeros((height, width, 3), np.uint8)
    if task == "classify":
        return ClassifyInput(pixels, 1)
    return SegmentInput(pixels, (height, width))


class Ranking(NamedTuple):
    """The best labels of one image, best first: their indices and scores."""

    indices: list[int]
    scores: list[float]


class Relevance(NamedTuple):
    """The explanation of one image.

    Attributes:
        ranking: the labels; the first one is explained.
        grid: share of each cell in the relevance, float32 (rows, columns), from the upper left
            corner of the input.
        cell: pixels of the input a side of a cell.
        attention_distance: in pixels of the input, for each attention layer and each of its heads.
    """

    ranking: Ranking
    grid: NDArray[np.float32]
    cell: int
    attention_distance: list[list[float]]

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of the grid in pixels of the input."""
        return 0, 0, self.grid.shape[0] * self.cell, self.grid.shape[1] * self.cell


class Confidence(NamedTuple):
    """How sure the network is of a label map: the probability of each pixel's class.

    Attributes:
        sums: for each class, the sum over its pixels, float64 (num_labels,).
        pixels: 255 times the probability, rounded to the nearest integer, uint8 (H, W).
    """

    sums: NDArray[np.float64]
    pixels: NDArray[np.uint8]


class Segmentation(NamedTuple):
    """The label map (H, W) of one image, and its confidence if it is wanted."""

    labels: LabelMap
    confidence: Confidence | None = None


EngineInput = ClassifyInput | EmbedInput | ExplainInput | SegmentInput
Embedding = NDArray[np.float32]  # (D,)
EngineOutput = Ranking | Embedding | Relevance | Segmentation


class BatchResult(NamedTuple):
    """The result of a batch.

    Attributes:
        outputs: one for each input, in order.
        stages: seconds of each stage.
        device_s: seconds from the start to the end of the batch's work on the device, without the
            copy to the device and the wait for earlier batches; 0 if it is not measured.
    """

    outputs: list[EngineOutput]
    stages: dict[str, float]
    device_s: float = 0.0


@dataclass(frozen=True)
class ModelInfo:
    """A loaded model; `preprocessing.input_size` is None if the network takes any size."""

    task: Task
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    device: str
    dtype: str
    parameters: int
    runtime: str = "torch"
    problem_type: ProblemType = "single_label_classification"
    preprocessing_assumed: bool = False  # the checkpoint does not say
    assumptions: tuple[str, ...] = ()  # what the checkpoint leaves open, one sentence each


class OutOfMemory(Exception):
    """The device has no memory for a batch; a smaller batch may fit."""


class DeviceLost(Exception):
    """The device cannot compute any more until the process restarts."""


class InferenceEngine(Protocol):
    """What batching asks of an engine.

    An engine raises `OutOfMemory` and `DeviceLost` for errors of the device. Every other error
    counts as an error of one of the inputs.
    """

    def load(self) -> ModelInfo:
        """Read the checkpoint and place the network on the device."""
        ...

    def warm_up(self, max_batch_size: int, budget_s: float) -> dict[int, float]:
        """Run batches of growing size; return the seconds by batch size, at least for 1."""
        ...

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        """Run one batch of inputs of one kind and of equal shapes: `launch(inputs)()`.

        On a CPU, any number of threads may call it at the same time.
        """
        ...

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        """Start a batch, and return a function that waits for only this batch and returns it.

        A GPU is still computing when this returns, so that the next batch can be staged meanwhile;
        a CPU has finished. On a GPU, one thread makes all launches and collects them in order, each
        once. Usually two are open; more would only wait for each other.
        """
        ...

    def memory(self) -> dict[str, int]:
        """Bytes of the device's memory by kind; empty on a CPU."""
        ...
