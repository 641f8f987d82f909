"""Moves a batch into a staging buffer, to the device, through the work, and back to the host."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.engine.pipeline.streams import Event, Streams

RawOutput = TypeVar("RawOutput")


class Collected(NamedTuple):
    """The results of a batch, on the host, and its seconds: of each stage, and on the device."""

    results: list[Tensor]
    stages: dict[str, float]
    device_s: float


class StagingBuffer:
    """Memory for one batch on the host and on the device.

    A batch has it from its launch until it is collected, so that no other batch overwrites it.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._host = self._device = torch.empty(0, dtype=torch.uint8)

    def stage(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, tuple[Event, Event]]:
        """Copy images of equal size to the device.

        Args:
            images: each uint8 (H, W, 3).

        Returns:
            The batch on the device, uint8 (B, H, W, 3), and the events before and after the copy.
        """
        shape = (len(images), *images[0].shape)
        length = math.prod(shape)
        if length > len(self._host):
            self._host, self._device = self._streams.buffers(length)
        host, device = (memory[:length].view(shape) for memory in (self._host, self._device))
        np.stack(images, out=host.numpy())
        return device, self._streams.upload(host, device)


class Pipeline:
    """Runs batches of images on a device.

    It has as many staging buffers as batches were ever open at the same time: two if one batch is
    staged while another computes.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._idle: deque[StagingBuffer] = deque()

    @torch.inference_mode()
    def launch(
        self,
        images: Sequence[NDArray[np.uint8]],
        compute: Callable[[Tensor], RawOutput],
        reduce: Callable[[RawOutput], Sequence[Tensor]],
    ) -> Callable[[], Collected]:
        """Start a batch.

        Neither function may keep its argument: later batches overwrite the memory.

        Args:
            images: each uint8 (H, W, 3), of equal size.
            compute: from the batch, uint8 (B, H, W, 3), to the raw output, on the device.
            reduce: from the raw output to the results to copy to the host.

        Returns:
            A function that waits for only this batch and returns it; call it once.
        """
        launched = time.monotonic()
        buffer = self._buffer()
        try:
            with self._streams.as_current_device():
                batch, copy = buffer.stage(images)
                stage_s = time.monotonic() - launched
                events = [self._streams.record_event()]
                raw = compute(batch)
                events.append(self._streams.record_event())
                # a non-blocking `to` copies into pinned memory
                results = [result.to("cpu", non_blocking=True) for result in reduce(raw)]
                events.append(self._streams.record_event())
        except BaseException:
            self._idle.append(buffer)  # its batch is not read any more
            raise
        return partial(self._collect, buffer, results, stage_s, copy, events)

    def _collect(
        self,
        buffer: StagingBuffer,
        results: list[Tensor],
        stage_s: float,
        copy: tuple[Event, Event],
        events: Sequence[Event],
    ) -> Collected:
        """Wait for a batch; return its results and the seconds of its stages.

        Args:
            buffer: the batch's own.
            results: on the host; the copy to them may not be done.
            stage_s: seconds until the copy to the device was enqueued.
            copy: before and after this copy.
            events: before the computation, after it, and after the copy of the results.
        """
        copy_start, copy_end = copy
        start, computed, done = events
        done.wait()
        self._idle.append(buffer)
        stages = {
            "stage_in": stage_s + copy_end.since(copy_start),
            "compute": computed.since(start),
            "postprocess": done.since(computed),
        }
        return Collected(results, stages, done.since(start))

    def _buffer(self) -> StagingBuffer:
        try:
            return self._idle.pop()
        except IndexError:
            return StagingBuffer(self._streams)
