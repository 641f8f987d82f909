"""A graph recorder for CPUs, and the devices of the tests: the CPU, and CUDA if there is a GPU."""

from collections.abc import Callable

import pytest
import torch

from app.engine.pipeline import Streams, streams_of
from app.engine.pipeline.streams import HostStreams, Outputs, Recorded


class Repeating:
    """Records by keeping the work: a replay runs it again, and writes to the same outputs.

    As with a CUDA graph, inputs are read from the same memory, and every replay overwrites the
    outputs of all recordings.
    """

    def __init__(self, refuses: Callable[[int], bool] = lambda count: False) -> None:
        self.order: list[int] = []  # recorded batch sizes
        self.replays: list[int] = []
        self._refuses = refuses
        self._all: list[Outputs] = []

    def record(self, work: Callable[[], Outputs]) -> Recorded:
        outputs = tuple(output.clone() for output in work())
        count = len(outputs[0])
        if self._refuses(count):
            raise RuntimeError("operation not permitted when stream is capturing")
        self.order.append(count)
        self._all.append(outputs)

        def replay() -> None:
            self.replays.append(count)
            for recorded in self._all:
                for output in recorded:
                    output.fill_(float("nan"))
            for output, value in zip(outputs, work(), strict=True):
                output.copy_(value)

        return Recorded(replay, outputs)


@pytest.fixture
def repeating() -> type[Repeating]:
    """The recorder for CPUs."""
    return Repeating


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def streams(request) -> Streams:
    """The streams of each device; the streams of the CPU record too."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        return streams_of(torch.device("cuda"))
    return HostStreams(Repeating())


@pytest.fixture
def device(streams) -> torch.device:
    """The device of the streams."""
    return streams.buffers(1)[1].device
