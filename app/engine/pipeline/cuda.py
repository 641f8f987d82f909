"""Owns the pipeline's side of CUDA: its streams, events, pinned memory and graphs.

Knows nothing of batches.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

import torch
from torch import Tensor

from app.engine.pipeline.streams import GraphRecorder, Outputs, Recorded

WARM_UPS = 3  # before a capture: libraries make their plans, and constants go to the device


class CudaEvent:
    """A CUDA event; the thread that waits for it sleeps, and leaves its core to the decoders."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._event = torch.cuda.Event(enable_timing=True, blocking=True)
        self._event.record(stream)

    def wait(self) -> None:
        """Return when all work before it is done."""
        self._event.synchronize()

    def make_wait(self, stream: torch.cuda.Stream) -> None:
        """Let what is enqueued on a stream from now on wait for it."""
        stream.wait_event(self._event)

    def since(self, earlier: Self) -> float:
        """The seconds from an earlier point; the work before both must be done."""
        return earlier._event.elapsed_time(self._event) / 1000


class CudaGraphRecorder:
    """Captures CUDA graphs. All share one pool of memory, so the largest should be the first.

    They may be replayed in any order, on one stream, while the outputs of one are read before
    another is replayed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # one, as libraries keep memory for each

    def record(self, work: Callable[[], Outputs]) -> Recorded:
        """Capture what `work` enqueues, after some runs of it that are not captured.

        RuntimeError where it does what a graph cannot, as waiting for the device.
        """
        main, side = torch.cuda.current_stream(self._device), self._stream
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        main.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # other threads' calls, as of an exporter that asks for memory, must not spoil the capture
        with torch.cuda.graph(graph, self._pool, side, capture_error_mode="thread_local"):
            outputs = work()
        return Recorded(graph.replay, outputs)


class CudaStreams:
    """A GPU: the current stream computes, a stream of our own copies to the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)
        self.recorder: GraphRecorder | None = CudaGraphRecorder(device)

    def as_current_device(self) -> AbstractContextManager[object]:
        """Within it this is the current device, to which kernels are sent."""
        return torch.cuda.device(self._device)

    def buffers(self, length: int) -> tuple[Tensor, Tensor]:
        """Pinned memory on the host, which is copied while others compute, and on the device."""
        host = torch.empty(length, dtype=torch.uint8, pin_memory=True)
        with torch.cuda.stream(self._copies):  # what the allocator reuses is then free to copy to
            return host, torch.empty(length, dtype=torch.uint8, device=self._device)

    def upload(self, host: Tensor, there: Tensor) -> tuple[CudaEvent, CudaEvent]:
        """Copy on a stream of its own; what is computed from now on waits for it."""
        with torch.cuda.stream(self._copies):
            before = CudaEvent(self._copies)
            there.copy_(host, non_blocking=True)
            behind = CudaEvent(self._copies)
        behind.make_wait(torch.cuda.current_stream(self._device))
        return before, behind

    def record_event(self) -> CudaEvent:
        """The point behind all that is to be computed so far."""
        return CudaEvent(torch.cuda.current_stream(self._device))
