"""The CUDA version of streams, events and graphs, with pinned memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

import torch
from torch import Tensor

from app.engine.pipeline.streams import GraphRecorder, Outputs, Recorded

WARM_UPS = 3  # runs before a capture, in which libraries plan and constants are copied


class CudaEvent:
    """A CUDA event; a waiting thread sleeps, so that its core is free for decoding."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._event = torch.cuda.Event(enable_timing=True, blocking=True)
        self._event.record(stream)

    def wait(self) -> None:
        """Wait until all work before the event is done."""
        self._event.synchronize()

    def make_wait(self, stream: torch.cuda.Stream) -> None:
        """Let later work on a stream wait for the event."""
        stream.wait_event(self._event)

    def since(self, earlier: Self) -> float:
        """Seconds since an earlier event; the work before both must be done."""
        return earlier._event.elapsed_time(self._event) / 1000


class CudaGraphRecorder:
    """Captures CUDA graphs. All share one memory pool, so record the largest graph first.

    The graphs may be replayed in any order, on one stream. Enqueue all reads of a graph's outputs
    before the next replay, which overwrites them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # a single one: libraries keep memory for each

    def record(self, work: Callable[[], Outputs]) -> Recorded:
        """Capture the work that a function enqueues, after some runs without capture.

        Raises:
            RuntimeError: the work does something that a graph cannot, such as wait for the device.
        """
        main, side = torch.cuda.current_stream(self._device), self._stream
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        main.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # calls of other threads, for example for memory statistics, must not break the capture
        with torch.cuda.graph(graph, self._pool, side, capture_error_mode="thread_local"):
            outputs = work()
        return Recorded(graph.replay, outputs)


class CudaStreams:
    """The streams of a GPU: the current stream computes, and another one copies to the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copy_stream = torch.cuda.Stream(device)
        self.recorder: GraphRecorder | None = CudaGraphRecorder(device)

    def as_current_device(self) -> AbstractContextManager[object]:
        """Make this the current device, which kernels are sent to."""
        return torch.cuda.device(self._device)

    def buffers(self, length: int) -> tuple[Tensor, Tensor]:
        """Pinned memory on the host, which copies without blocking, and memory on the device."""
        host = torch.empty(length, dtype=torch.uint8, pin_memory=True)
        # on the copy stream: memory that the allocator reuses is then safe to copy to
        with torch.cuda.stream(self._copy_stream):
            return host, torch.empty(length, dtype=torch.uint8, device=self._device)

    def upload(self, host: Tensor, device: Tensor) -> tuple[CudaEvent, CudaEvent]:
        """Copy on the copy stream; later work on the current stream waits for the copy."""
        with torch.cuda.stream(self._copy_stream):
            start = CudaEvent(self._copy_stream)
            device.copy_(host, non_blocking=True)
            end = CudaEvent(self._copy_stream)
        end.make_wait(torch.cuda.current_stream(self._device))
        return start, end

    def record_event(self) -> CudaEvent:
        """An event after all work on the current stream."""
        return CudaEvent(torch.cuda.current_stream(self._device))
