"""Owns what the service asks of an engine, and what it is given back.

Knows nothing of how an engine does it; a test can stand in for one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.core.types import LabelMap, Method, Task
from models.preprocessing import Preprocessing


class ClassifyInput(NamedTuple):
    """One image to classify: uint8 (H, W, 3), and how many labels to return."""

    pixels: NDArray[np.uint8]
    top_k: int


class EmbedInput(NamedTuple):
    """One image whose embedding is wanted: uint8 (H, W, 3)."""

    pixels: NDArray[np.uint8]


class ExplainInput(NamedTuple):
    """One image to classify and to explain: uint8 (H, W, 3), and how."""

    pixels: NDArray[np.uint8]
    top_k: int
    method: Method


class SegmentInput(NamedTuple):
    """One image to segment: uint8 (H, W, 3), and the (height, width) that its mask shall have."""

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


class Ranking(NamedTuple):
    """The best labels of one image, best first: their indices and their scores."""

    indices: list[int]
    scores: list[float]


class Relevance(NamedTuple):
    """What the answer to one image hangs on.

    Attributes:
        ranking: the answer.
        grid: the share of each cell, float32 (rows, columns), from the input's upper left corner.
        cell: pixels of the input a side of such a cell.
        attention_distance: in pixels of the input, of each attention and each of its heads.
    """

    ranking: Ranking
    grid: NDArray[np.float32]
    cell: int
    attention_distance: list[list[float]]

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """Top, left, bottom and right of the grid in pixels of the input."""
        return 0, 0, self.grid.shape[0] * self.cell, self.grid.shape[1] * self.cell


EngineInput = ClassifyInput | EmbedInput | ExplainInput | SegmentInput
Embedding = NDArray[np.float32]  # (D,)
EngineOutput = Ranking | Embedding | Relevance | LabelMap


class BatchResult(NamedTuple):
    """What a batch gave: one output per input, in order, and the seconds of each stage."""

    outputs: list[EngineOutput]
    stages: dict[str, float]


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a loaded model; `input_size` is (height, width), None where any will do."""

    task: Task
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    device: str
    dtype: str
    parameters: int
    runtime: str = "torch"


class OutOfMemory(Exception):
    """The device has no memory for a batch; a smaller one may fit."""


class DeviceLost(Exception):
    """The device computes nothing any more, until the process is started anew."""


class InferenceEngine(Protocol):
    """What the service asks of an engine.

    Of what it raises, `OutOfMemory` and `DeviceLost` have a meaning of their own; anything else is
    taken to be the fault of one of the inputs.
    """

    def load(self) -> ModelInfo:
        """Read the checkpoint and place the network on the device."""
        ...

    def warm_up(self, max_batch_size: int, budget_s: float) -> dict[int, float]:
        """Run batches of growing size; seconds by batch size, at least for 1."""
        ...

    def run(self, inputs: Sequence[EngineInput]) -> BatchResult:
        """Run one batch of one kind of input and of equal shapes: `launch(inputs)()`.

        On a CPU any number of threads may do so at once.
        """
        ...

    def launch(self, inputs: Sequence[EngineInput]) -> Callable[[], BatchResult]:
        """Begin a batch, and return what waits for its end, and for nothing else, and gives it.

        A GPU works on when this returns, so that the next batch is staged while this one computes;
        a CPU is done by then. On a GPU all launches come from one thread, which collects them in
        their order, each once; as a rule two are open, as more would only wait for each other.
        """
        ...

    def memory(self) -> dict[str, int]:
        """Bytes of the device's memory by kind; nothing on a CPU."""
        ...
